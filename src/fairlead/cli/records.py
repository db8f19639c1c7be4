"""`fairlead records`: what the gateway wrote down of each request."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    table,
)
from fairlead.domain.release import short


def register(app: typer.Typer) -> None:
    app.command()(records)


def records(
    service: ServiceOption = None,
    release: Annotated[str | None, typer.Option(help="Only this release (digest).")] = None,
    rollout: Annotated[str | None, typer.Option(help="Only this rollout.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only failed requests.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the newest request records."""
    found = client(state).get(
        list[dict[str, Any]], "records", service=service, release=release, rollout=rollout,
        errors=int(errors), limit=limit,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    shown = table(
        "=request", "=when", "service", "=release", "=arm", ">status", ">ms", ">in", ">out",
        "=error",
        gives_way=("in", "out", "service", "arm", "ms", "release", "when"),
    )  # fmt: skip
    for row in found:
        shown.add_row(
            row["id"], ago(row["started_at"]), row["service"], short(row["release"]), row["arm"],
            str(row["status"]), f"{row['duration_ms']:.1f}", str(row["prompt_tokens"]),
            str(row["completion_tokens"]), row["error"],
        )  # fmt: skip
    console.print(shown)
