"""`fairlead rollout export`: what a rollout was judged by, for `fairlead rollout replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fairlead.cli.options import STATE_DEFAULT, StateOption, client, say
from fairlead.domain.errors import InvalidInput, StorageFailed
from fairlead.rollout.export import Recorded

IdArgument = Annotated[str, typer.Argument(help="Id of the rollout.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the two files; the current one if not given."),
]


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(rollout: IdArgument, out: OutOption = None, state: StateOption = STATE_DEFAULT) -> None:
    """Write the observations of a rollout, and the metrics by which it was judged."""
    if "/" in rollout:
        raise InvalidInput(f"{rollout!r} is no id of a rollout", hint="see `fairlead rollout list`")
    found = client(state).get(Recorded, "rollouts", rollout, "observations")
    folder = out or Path()
    lines, metrics = folder / f"{rollout}.jsonl", folder / f"{rollout}.metrics.yaml"
    try:
        lines.write_bytes(b"".join(msgspec.json.encode(o) + b"\n" for o in found.observations))
        metrics.write_bytes(metrics_file(found))
    except OSError as error:
        raise StorageFailed(f"{folder}: cannot be written: {error.strerror}") from None
    say(f"{lines}: {found.judged_at:,} units; judge them again with")
    say(f"  fairlead rollout replay {lines} --metrics {metrics}")


def metrics_file(found: Recorded) -> bytes:
    """The metrics file of a replay; JSON, which is YAML as well."""
    document = {
        "alpha": found.alpha,
        "beta": found.beta,
        "judged_at": found.judged_at,
        "metrics": [_entry(msgspec.to_builtins(metric)) for metric in found.metrics],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _entry(metric: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in metric.items() if value is not None}
