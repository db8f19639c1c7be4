"""Which releases are probed: champions, who serves beside them, and who serves in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ProbeSpec, ServiceSpec
from fairlead.rollout.desires import is_terminal
from fairlead.rollout.states import State

IsRemote = Callable[[str], bool]
"""Whether the release of this digest is a provider's model."""


def with_fallbacks(champions: Sequence[ServiceSpec], is_remote: IsRemote) -> list[ServiceSpec]:
    """The champions' specs; a fallback without probes of its own has those of who names it first.

    It serves where that one does not, so that it matters as much whether it answers as it did. It
    is only told of: fallbacks of the fallback are its own affair. A bound in USD needs a price.
    """
    lent: dict[str, ProbeSpec] = {}
    for spec in champions:
        if spec.probes is not None:
            for name in spec.fallbacks:
                lent.setdefault(name, spec.probes)
    found = []
    for spec in champions:
        probes = lent.get(spec.service)
        fits = (
            spec.probes is None
            and probes is not None
            and (probes.rule.usd_per_day is None or spec.price is not None)
            and is_remote(spec.release)
        )
        found.append(msgspec.structs.replace(spec, probes=_told(probes)) if fits else spec)
    return found


def candidates(running: Sequence[Running], champions: Sequence[ServiceSpec]) -> list[ServiceSpec]:
    """The specs of releases that have met clients in a rollout and are no champions yet."""
    serving = {(spec.service, spec.release) for spec in champions}
    return [
        each.spec
        for each in running
        if each.rollout.phase > 0
        and each.rollout.drill is None
        and not is_terminal(each.rollout)
        and each.rollout.state is not State.ROLLING_BACK
        and (each.spec.service, each.spec.release) not in serving
    ]


def _told(probes: ProbeSpec | None) -> ProbeSpec | None:
    if probes is None:
        return None
    rule = msgspec.structs.replace(probes.rule, on_change="alert")
    return msgspec.structs.replace(probes, rule=rule)
