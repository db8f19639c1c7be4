"""What people are told of probes: what is new since what was kept before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from fairlead.control.probing.probe_views import Role
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.probing.model import ProbeRule, Probing
from fairlead.store.rows import EventRow


def happened(
    spec: ServiceSpec, rule: ProbeRule, role: Role, states: tuple[Probing, Probing], now: float
) -> Iterator[EventRow]:
    """What is new.

    Args:
        states: What was kept before, and what is kept now.
    """
    before, after = states
    if after.change is not None and before.change is None:
        diverts = rule.on_change == "fallback" and role == "champion"
        then = "; its fallbacks answer" if diverts else ""
        why = f"the provider of {spec.name} answers otherwise: {after.change.why}{then}"
        yield event_of(spec, now, "unrequested_release", why)
    if after.failing_since is not None and before.failing_since is None:
        yield event_of(spec, now, "probes_failing", f"the probes are not answered: {after.failure}")
    if after.failing_since is None and before.failing_since is not None:
        yield event_of(spec, now, "probes_answered", "the probes are answered again")
    if before.rounds < rule.reference_rounds <= after.rounds:
        yield event_of(spec, now, "probes_reference", f"{after.rounds} rounds are the reference")
    for note in after.notes:
        if note not in before.notes:
            yield event_of(spec, note.at, "provider_named_otherwise", note.what)


def event_of(spec: ServiceSpec, at: float, kind: str, message: str) -> EventRow:
    """An event of a release's probes."""
    release: Mapping[str, str] = {"release": spec.release}
    return EventRow(at, kind, message, service=spec.service, data=msgspec.json.encode(release))
