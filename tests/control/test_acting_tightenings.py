"""A guardrail that flags is made to block by an action, and goes back to what it was."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from control.acting_world import acting, carry_out, entry, platform, told
from control.simulated_world import DIRECT, World
from fairlead.control.api import create_app
from fairlead.domain.errors import NotFound
from fairlead.domain.guardrail import Guardrail
from fairlead.monitoring.actions import ActionEntry, ActionKind
from fairlead.registry import BuildInput
from fairlead.wire.snapshot import Snapshot

SEES = Guardrail("secrets", "prompt", phrases=("swordfish",))
MAIL = Guardrail("mail", "answer", pii=("email",))
HARD = Guardrail("hard", "prompt", "block", phrases=("never",))
BEGUN, ENDED = "guardrail_tightened", "guardrail_loosened"


def tighten(*names: str, at: float = 1_000.0) -> ActionEntry:
    return entry(ActionKind.TIGHTEN_GUARDRAIL, ",".join(names), at)


def build(world: World, name: str, *guardrails: Guardrail) -> str:
    """A release like `a` with these guardrails; its digest."""
    like = world.registry.get(world.digests["a"])
    given = BuildInput(
        model=like.source,
        engine=like.release.engine,
        prompt=like.release.prompt,
        sampling=like.release.sampling,
        name=name,
        service="bank",
        guardrails=guardrails,
    )
    world.digests[name] = world.registry.build(given, now=1.0).digest
    return world.digests[name]


async def guarded(world: World) -> str:
    """A champion with three guardrails, of which two flag; its digest."""
    digest = build(world, "g", SEES, MAIL, HARD)
    await world.first_champion("g")
    return digest


def actions(world: World, name: str = "g") -> dict[str, str]:
    """What each guardrail does, as the gateway is told."""
    route = world.route().releases[world.digests[name]]
    return {one.name: one.action for one in route.guardrails}


AS_DECLARED = {"secrets": "flag", "mail": "flag", "hard": "block"}


async def test_the_gateway_is_told_what_a_release_declares(world: World) -> None:
    await guarded(world)
    assert actions(world) == AS_DECLARED
    await platform(world).look()
    assert platform(world).circumstances["bank"].guardrails == ("secrets", "mail")
    sent = msgspec.json.decode(msgspec.json.encode(world.plane.hub.snapshot), type=Snapshot)
    assert sent == world.plane.hub.snapshot


async def test_one_is_tightened_until_a_person_ends_it_also_after_a_restart(world: World) -> None:
    """The release stays what it is; it is done once, however often it is carried out."""
    digest = await guarded(world)
    said = await carry_out(world, tighten("secrets"))
    assert "guardrail secrets of release g blocks" in said
    assert "`fairlead monitor loosen bank secrets`" in said
    await world.turn()
    assert actions(world) == {**AS_DECLARED, "secrets": "block"}
    assert world.champion() == digest
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert actions(world) == {**AS_DECLARED, "secrets": "block"}, "it is kept"
    assert "blocks" in await carry_out(world, tighten("secrets"))
    [kept] = acting(world).tightenings.all()
    assert (kept.release, kept.guardrail, kept.by) == (
        digest,
        "secrets",
        "policy tighten_guardrail:slo",
    )
    status = await world.plane.reports.status()
    assert [service.tightened for service in status.services] == [("secrets",)]
    await platform(world).look()
    assert platform(world).circumstances["bank"].guardrails == ("mail",)
    assert await world.plane.loosen("bank", "secrets") == kept
    await world.turn()
    assert actions(world) == AS_DECLARED
    assert len(told(world, BEGUN)) == len(told(world, ENDED)) == 1
    with pytest.raises(NotFound, match="no action has tightened"):
        await world.plane.loosen("bank", "secrets")


async def test_several_at_once_and_one_that_is_gone(world: World) -> None:
    await guarded(world)
    said = await carry_out(world, tighten("secrets", "mail", "gone"))
    assert "guardrails secrets, mail of release g block, until" in said
    await world.turn()
    assert set(actions(world).values()) == {"block"}
    said = await carry_out(world, tighten("gone", at=2_000.0))
    assert "does not declare it any more" in said


async def test_a_canary_blocks_alike_and_takes_it_over_when_it_is_promoted(world: World) -> None:
    """Users are not told of what blocks in one arm only; the mail guardrail is not the canary's."""
    await guarded(world)
    await carry_out(world, tighten("secrets", "mail"))
    build(world, "h", SEES)
    world.users_per_turn, world.fails["g"], world.fails["h"] = 6, 0.2, 0.0
    rollout = await world.ship("h")
    await world.until(lambda: world.route().canary is not None)
    assert actions(world) == {**AS_DECLARED, "secrets": "block", "mail": "block"}
    assert actions(world, "h") == {"secrets": "block"}
    assert (await world.finish(rollout)).outcome == "promoted"
    await world.turn()
    assert actions(world, "h") == {"secrets": "block"}, "and in no snapshot it flagged"
    for snapshot in world.published:
        route = snapshot.services["bank"].releases.get(world.digests["h"])
        assert route is None or route.guardrails[0].action == "block"
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert actions(world, "h") == {"secrets": "block"}, "it is kept"
    [kept] = acting(world).tightenings.all()
    assert (kept.release, kept.guardrail) == (world.digests["h"], "secrets")
    [ended] = told(world, ENDED)
    assert "guardrail mail is as declared again" in ended


@pytest.mark.parametrize("declared", [(), (msgspec.structs.replace(SEES, action="block"),)])
async def test_the_promotion_of_a_release_that_does_not_flag_by_it_ends_it(
    world: World, declared: tuple[Guardrail, ...]
) -> None:
    await guarded(world)
    await carry_out(world, tighten("secrets"))
    build(world, "h", *declared)
    await world.finish(await world.ship("h", plan=DIRECT))
    await world.turn()
    assert actions(world, "h") == {one.name: one.action for one in declared}
    assert acting(world).tightenings.all() == []
    assert "serves" in told(world, ENDED)[0]


async def test_a_damaged_note_is_left_out(world: World) -> None:
    await guarded(world)
    world.store.commit_documents({("tightened", "bank/secrets"): b'{"service": 7}'})
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert actions(world) == AS_DECLARED


async def test_people_see_and_end_it_by_the_api(world: World) -> None:
    await guarded(world)
    await carry_out(world, tighten("secrets"))
    transport = httpx.ASGITransport(create_app(world.plane, "t"))
    headers = {"authorization": "Bearer t"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c/api/v1", headers=headers
    ) as client:
        (shown,) = (await client.get("/tightenings")).json()
        assert (shown["service"], shown["guardrail"]) == ("bank", "secrets")
        [service] = (await client.get("/status")).json()["services"]
        assert service["tightened"] == ["secrets"]
        path = "/services/bank/guardrails/secrets/loosen"
        assert (await client.post(path)).json()["guardrail"] == "secrets"
        missing = await client.post(path)
        assert missing.status_code == 404
        assert (await client.get("/tightenings")).json() == []
