"""`fairlead samples`: prompts and answers that are kept, read and deleted."""

from __future__ import annotations

from typing import Annotated

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
    say,
    table,
)
from fairlead.control.sample_views import Deleted, SampleView

app = typer.Typer(
    help="Samples of prompts and answers, as `capture` in the manifest has them kept.",
    no_args_is_help=True,
)
RolloutOption = Annotated[str | None, typer.Option("--rollout", help="Only this rollout.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Only of this API key (its id).")]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="Only of this session, user or key (its hash).")
]


@app.command("list")
def list_samples(
    service: ServiceOption = None,
    rollout: RolloutOption = None,
    key: KeyOption = None,
    unit: UnitOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the newest samples. That they were read is noted as an event."""
    found = client(state).get(
        list[SampleView], "samples", service=service, rollout=rollout, key=key, unit=unit,
        limit=limit,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    shown = table("=request", "=when", "service", "~prompt", "~answer", gives_way=("service",))
    for row in found:
        last = row.prompt[-1][1] if row.prompt else ""
        shown.add_row(row.id, ago(row.at), row.service, _line(last), _line(row.answer))
    console.print(shown)


@app.command()
def show(
    request: Annotated[str, typer.Argument(help="The request's id.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show one sample as a whole."""
    from fairlead.domain.errors import NotFound

    found = client(state).get(list[SampleView], "samples", request=request)
    if not found:
        raise NotFound(
            f"there is no sample of request {request}",
            hint="it was not in the sample, or has been deleted",
        )
    if as_json:
        print_json(found[0])
        return
    for role, text in found[0].prompt:
        say((f"{role}: ", "bold"), text, whole=True)
    say(("answer: ", "bold green"), found[0].answer, whole=True)
    if found[0].is_cut:
        say(("something was left out for its length", "dim"))


@app.command()
def delete(
    request: Annotated[str | None, typer.Argument(help="The request's id.")] = None,
    service: ServiceOption = None,
    rollout: RolloutOption = None,
    key: KeyOption = None,
    unit: UnitOption = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Delete samples for good, all that the options name together."""
    gone = client(state).delete(
        Deleted, "samples", request=request, service=service, rollout=rollout, key=key, unit=unit
    )
    if as_json:
        print_json(gone)
        return
    say(f"{gone.count:,} deleted")


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
