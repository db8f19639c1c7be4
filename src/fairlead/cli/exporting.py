"""`fairlead rollout export`: what a rollout was judged by, for `fairlead rollout replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fairlead.cli.options import STATE_DEFAULT, StateOption, client, say
from fairlead.domain.errors import InvalidInput, StorageFailed
from fairlead.rollout.export import NOT_KEPT, Recorded

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
    lines, metrics = write_export(rollout, found, out or Path())
    cases = f" and {len(found.pairs):,} cases of suites" if found.pairs else ""
    if found.incomplete_suites:
        names = ", ".join(found.incomplete_suites)
        say(f"not in it: what the suites {names} have shown ({NOT_KEPT})")
    say(f"{lines}: {found.judged_at:,} units{cases}; judge them again with")
    say(f"  fairlead rollout replay {lines} --metrics {metrics}")


def write_export(rollout: str, found: Recorded, folder: Path) -> tuple[Path, Path]:
    """Write the observations and the metrics; their files. Raises StorageFailed."""
    lines, metrics = folder / f"{rollout}.jsonl", folder / f"{rollout}.metrics.yaml"
    told = (*found.observations, *found.pairs)
    try:
        lines.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in told))
        metrics.write_bytes(metrics_file(found))
    except OSError as error:
        raise StorageFailed(f"{folder}: cannot be written: {error.strerror}") from None
    return lines, metrics


def metrics_file(found: Recorded) -> bytes:
    """The metrics file of a replay; JSON, which is YAML as well."""
    document = {
        "alpha": found.alpha,
        "beta": found.beta,
        # Where suites alone have decided, there may be no unit.
        "judged_at": found.judged_at or None,
        "strata": list(found.strata),
        "suites": msgspec.to_builtins(found.suites) or None,
        "metrics": [_entry(msgspec.to_builtins(metric)) for metric in found.metrics],
    }
    return msgspec.json.format(msgspec.json.encode(_entry(document)), indent=2) + b"\n"


def _entry(given: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if value is not None}
