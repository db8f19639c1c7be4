"""What the tests of actions share: entries of the audit, and a second service as a fallback."""

from __future__ import annotations

from typing import Any

import msgspec

from control.simulated_world import DIRECT, World
from fairlead.control.acting.carrying_out import Acting
from fairlead.control.acting.platform import Platform
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.monitoring.actions import ActionEntry, ActionKind, ActionVerdict


def acting(world: World) -> Acting:
    assert world.plane.acting is not None
    return world.plane.acting


def platform(world: World) -> Platform:
    assert world.plane.platform is not None
    return world.plane.platform


def entry(kind: ActionKind, target: str, at: float = 1_000.0, **changes: Any) -> ActionEntry:
    """A decision about the service `bank`."""
    made = ActionEntry(
        at, "bank", f"{kind}:slo", kind, ActionVerdict.ACT, "a1e57", 990.0, target,
        "for a test: bank: slo is wrong",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


async def carry_out(world: World, one: ActionEntry) -> str:
    """As the loop does it: within the plane's lock."""
    async with world.plane._lock:
        return await acting(world).carry_out(one)


async def serves(world: World, release: str, **changes: Any) -> None:
    """Make it the champion; its gates get real time to be answered."""
    shipped = await world.ship(release, **{"plan": DIRECT, **changes})
    assert (await world.finish(shipped, turns=5_000)).outcome == "promoted"
    await world.turn()


async def small(world: World) -> None:
    """A service `small` serves release b, for `bank` to fall back to."""
    spec = ServiceSpec("small", world.digests["b"], "b", DIRECT)
    shipped = (await world.plane.ship(spec)).id
    assert (await world.finish(shipped)).outcome == "promoted"


def told(world: World, kind: str = "action") -> list[str]:
    return [row.message for row in world.store.events("bank", limit=1_000) if row.kind == kind]
