"""`fairlead ship`: build, gate, roll out, follow to the end."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.cli.follow import exit_code_of, follow
from fairlead.cli.options import (
    MANIFEST_DEFAULT,
    STATE_DEFAULT,
    JsonOption,
    ManifestOption,
    StateOption,
    client,
    console,
    print_json,
    say,
    state_words,
)
from fairlead.cli.release import registry_of
from fairlead.control.views import Applied, RolloutView, StatusView
from fairlead.domain.release import short


def register(app: typer.Typer) -> None:
    app.command()(ship)


def ship(
    file: ManifestOption = MANIFEST_DEFAULT,
    detach: Annotated[
        bool, typer.Option("--detach", help="Begin the rollout and return at once.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Begin it though it does not fit.")
    ] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Build the manifest's release, run its gates, roll it out, and follow to the verdict.

    What cannot fit (its steps into the deadline at the present traffic, its weights into the
    memory) is refused before it begins; see `fairlead rollout plan`.
    """
    from fairlead.cli.shipping import not_scored, prepare
    from fairlead.manifest import load_manifest

    manifest = load_manifest(file)
    control = client(state)
    spec = prepare(registry_of(state), manifest)
    if not as_json:
        say("built release ", (spec.name, "bold"), f" {short(spec.release)}")
        for why in not_scored(spec):
            say((f"no scores on a schedule: {why}", "yellow"))
    services = control.get(StatusView, "status").services
    if any(s.name == spec.service and s.champion == spec.release for s in services):
        applied = control.put(Applied, "services", spec.service, body=spec)
        if as_json:
            print_json(applied)
        else:
            also = "its settings are changed" if applied.changed else "nothing to do"
            console.print(f"release {spec.name} serves {spec.service} already; {also}")
        return
    view = control.post(RolloutView, "rollouts", body=spec, anyway=int(anyway))
    if not detach:
        view = follow(control, view.id, quiet=as_json, state=state)
    if as_json:
        print_json(view)
    elif detach:
        follow_it = f"fairlead rollout follow {view.id}{state_words(state)}"
        say(f"rollout {view.id}; follow it with `{follow_it}`", whole=True)
    raise typer.Exit(0 if detach else exit_code_of(view))
