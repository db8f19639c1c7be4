"""`fairlead monitor undivert`, `loosen` and `proposals`: what actions have left behind."""

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
    print_json,
    say,
)


def register(app: typer.Typer) -> None:
    app.command("undivert")(undivert)
    app.command("loosen")(loosen)
    app.command("proposals")(proposals)


def undivert(
    service: Annotated[str, typer.Argument(help="Name of the service.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Let a service's champion serve again whose fallbacks answer because of an action."""
    from fairlead.control.acting.diversions import Diversion
    from fairlead.domain.release import short

    ended = client(state).post(Diversion, "services", service, "undivert")
    if as_json:
        print_json(ended)
        return
    say(
        f"{service}: release {short(ended.release)} serves again; its fallbacks had answered since "
        f"{ago(ended.since)}: {ended.why}"
    )


def loosen(
    service: Annotated[str, typer.Argument(help="Name of the service.")],
    guardrail: Annotated[str, typer.Argument(help="Name of the guardrail.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Let a guardrail flag again that blocks because of an action."""
    from fairlead.control.acting.tightenings import Tightening

    ended = client(state).post(Tightening, "services", service, "guardrails", guardrail, "loosen")
    if as_json:
        print_json(ended)
        return
    say(
        f"{service}: guardrail {guardrail} flags again; it had blocked since "
        f"{ago(ended.since)}: {ended.why}"
    )


def proposals(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show what was proposed to be trained anew, and what there is to learn from."""
    from fairlead.control.acting.proposals import Proposal
    from fairlead.domain.release import short

    found = client(state).get(list[Proposal], "proposals", service=service)
    if as_json:
        print_json(found)
        return
    if not found:
        say(("nothing is proposed", "dim"))
    for one in found:
        say((one.service, "bold"), f"  {short(one.release)}  {one.id}, {ago(one.at)}")
        say(f"  {one.why}")
        means = "".join(f"; mean {name} {mean:.3g}" for name, mean in sorted(one.means.items()))
        say(f"  {one.words}, {one.errors:,} of them failed, since {ago(one.since)}{means}")
        for command in one.commands:
            say(f"  {command}", whole=True)
