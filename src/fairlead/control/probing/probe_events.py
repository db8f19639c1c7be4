"""What people are told of probes: what is new since what was kept before."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fairlead.control.probing.probe_views import Role
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.probing.model import ProbeRule, Probing
from fairlead.store.rows import EventRow

ACCEPTED = "probes_accepted"
"""Kind of the event that an unrequested release was accepted."""


def happened(
    spec: ServiceSpec, rule: ProbeRule, role: Role, states: tuple[Probing, Probing], now: float
) -> Iterator[EventRow]:
    """What is new.

    Args:
        states: What was kept before, and what is kept now.
    """
    before, after = states
    change = after.change
    if change is not None and before.change is None:
        diverts = rule.on_change == "fallback" and role == "champion"
        then = "; its fallbacks answer" if diverts else ""
        why = f"the provider of {spec.name} answers otherwise: {change.why}{then}"
        yield event_of(spec, now, "unrequested_release", why, since=change.since)
    if after.failing_since is not None and before.failing_since is None:
        yield event_of(spec, now, "probes_failing", f"the probes are not answered: {after.failure}")
    if after.failing_since is None and before.failing_since is not None:
        yield event_of(spec, now, "probes_answered", "the probes are answered again")
    if before.rounds < rule.reference_rounds <= after.rounds:
        yield event_of(spec, now, "probes_reference", f"{after.rounds} rounds are the reference")
    for note in after.notes:
        if note not in before.notes:
            yield event_of(spec, note.at, "provider_named_otherwise", note.what, since=note.since)


def was_accepted(spec: ServiceSpec, at: float, *, serves_again: bool) -> EventRow:
    """The event that an unrequested release was accepted.

    Args:
        serves_again: The fallbacks answered until then.
    """
    then = "; the champion serves again" if serves_again else ""
    why = f"the unrequested release was accepted; its answers become the reference{then}"
    return event_of(spec, at, ACCEPTED, why, serves_again=serves_again)


def event_of(
    spec: ServiceSpec,
    at: float,
    kind: str,
    message: str,
    *,
    since: float | None = None,
    serves_again: bool = False,
) -> EventRow:
    """An event of a release's probes.

    Args:
        since: Unix time after which it happened, where it was found by looking.
    """
    data: dict[str, object] = {"release": spec.release}
    if since is not None:
        data["since"] = since
    if serves_again:
        data["serves_again"] = True
    return EventRow(at, kind, message, service=spec.service, data=msgspec.json.encode(data))
