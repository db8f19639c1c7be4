"""What a rollout would take, as people read it."""

from __future__ import annotations

from rich.text import Text

from fairlead.control.views import PlanView
from fairlead.rollout.forecast import WORSE_BY, minutes
from fairlead.rollout.plan import percent


def plan_lines(view: PlanView) -> list[Text]:
    """The plan, a few short lines; problems first."""
    lines = [Text(f"does not fit: {problem}", style="red") for problem in view.problems]
    memory = f", {_gib(view.bytes_more)} for its weights" if view.bytes_more else ""
    if view.bytes_more and view.bytes_available is not None:
        memory += f" of {_gib(view.bytes_available)} available"
    lines.append(Text(f"replicas: {view.replicas_more} more at the most{memory}"))
    if view.steps:
        steps = ", ".join(
            percent(step.share) + ("" if step.seconds is None else f" for {minutes(step.seconds)}")
            for step in view.steps
            if step.seconds != 0.0
        )
        what = "steps: {} at least" if view.harm_budget is None else "ramp: about {}"
        if view.chosen:
            what += " (chosen by replicas, traffic and deadline)"
        lines.append(Text(what.format(steps)))
    if view.harm_budget is not None:
        lines.append(Text(f"harm budget: {view.harm_budget:,.1f} requests failed for it"))
    if view.units_to_promote is not None:
        lines.append(
            Text(
                f"verdict: about {view.units_to_promote:,} units (sessions, users or keys) for an "
                f"equal release{_time(view)}"
            )
        )
    if view.units_to_roll_back is not None:
        back = f"about {view.units_to_roll_back:,} units for one worse by {WORSE_BY:g} margins"
        lines.append(Text(f"rollback: {back}"))
    if view.canary_requests is not None:
        cost = "" if view.usd is None else f", about {view.usd:,.2f} USD"
        lines.append(Text(f"it answers about {view.canary_requests:,} requests until then{cost}"))
    lines += [Text(query) for query in view.queries]
    return lines + [Text(f"note: {note}", style="yellow") for note in view.notes]


def _time(view: PlanView) -> str:
    if view.seconds is None:
        return ""
    deadline = minutes(view.deadline_s)
    return (
        f", {minutes(view.seconds)} at {view.requests_per_s:.3g} requests/s (deadline {deadline})"
    )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"
