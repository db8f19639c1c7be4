"""`fairlead eval`: run a release's gates without giving it any traffic."""

from __future__ import annotations

import typer

from fairlead.cli.follow import exit_code_of, follow
from fairlead.cli.options import (
    MANIFEST_DEFAULT,
    STATE_DEFAULT,
    JsonOption,
    ManifestOption,
    StateOption,
    client,
    print_json,
)
from fairlead.cli.release import registry_of
from fairlead.control.views import RolloutView


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


def evaluate(
    file: ManifestOption = MANIFEST_DEFAULT,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Build the release and run its gates; exit code 3 if one does not pass."""
    from fairlead.cli.shipping import prepare
    from fairlead.manifest import load_manifest

    control = client(state)
    spec = prepare(registry_of(state), load_manifest(file))
    begun = control.post(RolloutView, "evaluations", body=spec)
    view = follow(control, begun.id, quiet=as_json, state=state)
    if as_json:
        print_json(view)
    raise typer.Exit(exit_code_of(view))
