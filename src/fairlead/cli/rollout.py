"""`fairlead rollout` and `fairlead rollback`: look at rollouts and steer them by hand."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli import exporting, replay
from fairlead.cli.explain import explanation, strata_table
from fairlead.cli.follow import exit_code_of, follow, verdict_text
from fairlead.cli.options import (
    MANIFEST_DEFAULT,
    STATE_DEFAULT,
    JsonOption,
    ManifestOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    say,
    table,
)
from fairlead.cli.plan import plan_lines
from fairlead.cli.queries import query_line
from fairlead.cli.release import registry_of
from fairlead.cli.status import watch_words
from fairlead.cli.watch import watch
from fairlead.control.views import PlanView, RollbackRequest, RolloutView
from fairlead.domain.errors import Conflict
from fairlead.domain.release import short

app = typer.Typer(help="Rollouts: list, show, follow and steer them.", no_args_is_help=True)
replay.register(app)
exporting.register(app)
IdArgument = Annotated[str, typer.Argument(help="Id of the rollout.")]


@app.command("list")
def list_rollouts(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """List rollouts, the newest first."""
    rollouts = client(state).get(list[RolloutView], "rollouts", service=service)
    if as_json:
        print_json(rollouts)
        return
    shown = table(
        "=rollout", "service", "=release", "=state", "=begun", "~reason",
        gives_way=("begun", "service"),
    )  # fmt: skip
    for view in rollouts:
        shown.add_row(
            view.id, view.service, f"{view.name} {short(view.release)}",
            view.state + (" (paused)" if view.paused else ""), ago(view.created_at), view.reason,
        )  # fmt: skip
    console.print(shown)


@app.command("show")
def show(
    rollout: IdArgument, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show one rollout: gates, guards, verdict with its numbers, history."""
    view = client(state).get(RolloutView, "rollouts", rollout)
    if as_json:
        print_json(view)
        return
    say((view.id, "bold"), f"  {view.service}  release {view.name} {short(view.release)}")
    if view.outcome == "running":
        console.print(f"{view.state}: {view.reason}")
    else:
        console.print(explanation(view))
    if view.awaits:
        console.print(f"  waits for {view.awaits}", style="yellow")
    for gate in view.gate_verdicts:
        console.print(f"gate {gate.gate}: {gate.outcome} – {gate.reason}")
    for query in view.queries:
        console.print(Text.assemble(f"{query.kind} ", query_line(query)))
    if view.verdict is not None:
        console.print(verdict_text(view.verdict))
        strata = view.verdict.numbers.get("by_stratum")
        if strata:
            console.print(strata_table(strata))
    if view.watch is not None:
        say(*watch_words(view.watch))
    history = table("=when", "=state", "why")
    for entry in view.history:
        history.add_row(ago(entry.at), entry.state, entry.why)
    console.print(history)


@app.command("plan")
def plan_rollout(
    file: ManifestOption = MANIFEST_DEFAULT,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Say what shipping the manifest's release would take: replicas, memory, time, requests, cost.

    The release is built, and nothing else is changed. Exit code 7 when it does not fit.
    """
    from fairlead.cli.shipping import prepare
    from fairlead.manifest import load_manifest

    spec = prepare(registry_of(state), load_manifest(file))
    view = client(state).post(PlanView, "plans", body=spec)
    if as_json:
        print_json(view)
    else:
        for line in plan_lines(view):
            console.print(line)
    raise typer.Exit(Conflict.exit_code if view.problems else 0)


@app.command("follow")
def follow_rollout(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Follow a rollout to its end; the exit code is its outcome's."""
    raise typer.Exit(exit_code_of(follow(client(state), rollout, state=state)))


@app.command("watch")
def watch_rollout(
    target: Annotated[str, typer.Argument(help="Id of the rollout or drill, or its service.")],
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Watch a rollout live: split, difference, evidence, what is missing, time left.

    When it has ended, its end is explained; the exit code is its outcome's.
    """
    raise typer.Exit(exit_code_of(watch(client(state), target, state=state)))


@app.command("pause")
def pause(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Hold the rollout where it is; a verdict to roll back still acts."""
    _command(state, rollout, "pause")


@app.command("resume")
def resume(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Go on with a paused rollout."""
    _command(state, rollout, "resume")


@app.command("promote")
def promote(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Promote the canary now, without waiting for the evidence."""
    _command(state, rollout, "promote")


@app.command("approve")
def approve(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Approve the step, or the promotion, that the rollout waits for."""
    _command(state, rollout, "approve")


@app.command("abort")
def abort(rollout: IdArgument, state: StateOption = STATE_DEFAULT) -> None:
    """Give the rollout up: all traffic goes to the champion."""
    _command(state, rollout, "abort")


def rollback(
    service: Annotated[str, typer.Argument(help="The service.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Former champion: name or digest. If not given: the champion before this one, or "
            "from a canary back to the champion."
        ),
    ] = None,
    why: Annotated[
        str, typer.Option(help="Reason, as `rollout show` and `list` give it.")
    ] = "rolled back by hand",
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Go back to an earlier release of a service, as a whole, without a canary.

    What is under way is ended: an evaluation, or the rollout of a release.
    """
    control = client(state)
    body = RollbackRequest(to=to, why=why)
    view = control.post(RolloutView, "services", service, "rollback", body=body)
    final = follow(control, view.id, state=state)
    if final.then is not None:
        final = follow(control, final.then, state=state)
    raise typer.Exit(0 if went_back(final) else exit_code_of(final))


def went_back(final: RolloutView) -> bool:
    """Whether what was asked for is so: the earlier release serves, or the new one is ended."""
    if final.goes_back:
        return final.outcome == "promoted"
    return final.outcome in ("rolled_back", "aborted")


def _command(state: StateOption, rollout: str, command: str) -> None:
    view = client(state).post(RolloutView, "rollouts", rollout, command)
    console.print(f"{view.id}: {view.state}{' (paused)' if view.paused else ''}")
