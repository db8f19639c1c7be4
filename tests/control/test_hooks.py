"""Webhooks: what is called when, what an answer means, and that none is lost with control."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from control.hook_server import HookServer
from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.outside.hooks import Hooks
from fairlead.control.shipping.stored import read_rollout
from fairlead.rollout.checkpoints import HookOutcome, HookReport
from fairlead.rollout.machine import Facts, Rollout, advance, new_rollout
from fairlead.rollout.plan import Hook, Plan, Point
from fairlead.rollout.remaining import awaits
from support.waiting import until


@pytest.fixture
def server() -> Iterator[HookServer]:
    made = HookServer()
    yield made
    made.close()


def rollout(*hooks: Hook) -> Rollout:
    return new_rollout(
        id="ro-1", service="bank", release="sha256:b", name="b", champion="sha256:a",
        plan=Plan(hooks=hooks), gates=0, now=1.0,
    )  # fmt: skip


async def settled(hooks: Hooks, point: str = "before") -> HookReport:
    """The report, once there is one."""
    found: HookReport | None = None

    def have_settled() -> bool:
        nonlocal found
        found = hooks.report("ro-1", point)
        return found is not None

    await until(have_settled)
    await hooks.close()
    assert found is not None
    return found


async def quickly(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_a_hook_is_told_once_what_is_the_case(server: HookServer) -> None:
    hooks = Hooks(quickly)
    for _ in range(3):
        hooks.start(rollout(Hook(server.url)), "before")
    assert (await settled(hooks)).outcome is HookOutcome.PASSED
    (call,) = server.calls
    assert (call["service"], call["release"], call["point"]) == ("bank", "sha256:b", "before")
    assert (call["state"], call["ending"], call["verdict"]) == ("evaluating", "", None)
    assert server.deliveries == [call["delivery"]] == ["ro-1/before"]


async def test_a_4xx_refuses_in_its_own_words_and_is_not_asked_again(server: HookServer) -> None:
    server.answers = [(409, '{"reason": "no change today\\n"}')]
    hooks = Hooks(quickly)
    hooks.start(rollout(Hook(server.url)), "before")
    report = await settled(hooks)
    assert report.outcome is HookOutcome.REFUSED
    assert report.why == f"hook 1 ({Hook(server.url).host}) answered 409: no change today"
    assert len(server.calls) == 1


async def test_a_secret_in_a_url_is_told_to_nobody(server: HookServer) -> None:
    """Not to the other hooks, the history, the events or those who look."""
    secret = f"{server.url}/T0/B0/SECRET?token=SECRET"
    one = rollout(Hook(secret, attempts=1), Hook("http://[::1]:9/SECRET", attempts=1))
    one = advance(one, Facts(now=2.0, candidate_ready=1))
    assert awaits(one) == (
        f"its hooks at before: hook 1 ({Hook(server.url).host}), hook 2 (http://[::1]:9)"
    )
    server.answers = [(403, "no")]
    hooks = Hooks(quickly)
    hooks.start(one, "before")
    refused = await settled(hooks)
    one = advance(one, Facts(now=3.0, candidate_ready=1, hooks=refused))
    assert one.reason == f"at before: hook 1 ({Hook(server.url).host}) answered 403: no"
    hooks.start(one, "after")
    unreachable = await settled(hooks, "after")
    assert unreachable.why.startswith("hook 2 (http://[::1]:9), 1 attempts: not reached")
    assert "SECRET" not in f"{refused}{one.history}{server.calls}{unreachable}"


async def test_what_does_not_answer_well_is_tried_again(server: HookServer) -> None:
    server.answers = [(500, "ill"), (302, "")]
    hooks = Hooks(quickly)
    hooks.start(rollout(Hook(server.url)), "before")
    assert (await settled(hooks)).outcome is HookOutcome.PASSED
    assert len(server.calls) == 3


async def test_what_never_answers_is_unreachable_after_its_attempts(server: HookServer) -> None:
    server.otherwise = (503, "down")
    hooks = Hooks(quickly)
    hooks.start(rollout(Hook(server.url, attempts=3), Hook("http://127.0.0.1:9/x", attempts=2)),
                "before")  # fmt: skip
    report = await settled(hooks)
    assert report.outcome is HookOutcome.UNREACHABLE
    assert "3 attempts: answered 503: down" in report.why
    assert "(http://127.0.0.1:9), 2 attempts" in report.why
    assert len(server.calls) == 3


def hooked(server: HookServer, plan: Plan = PLAN, **hook: object) -> Plan:
    return msgspec.structs.replace(plan, hooks=(Hook(server.url, **hook),))  # type: ignore[arg-type]


async def test_a_rollout_tells_its_hooks_at_each_point_in_order(
    world: World, server: HookServer
) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    shipped = await world.ship("b", plan=hooked(server))
    await world.until_in_real_time(lambda: "after" in server.points())
    assert server.points() == ["before", "step 1", "step 2", "promote", "after"]
    shares = [call["share"] for call in server.calls]
    assert shares == [0.0, 0.0, 0.3, 0.6, 0.0]
    assert server.calls[-1]["ending"] == "promoted"
    assert world.row(shipped).state == "promoted"


async def test_a_hook_that_refuses_ends_the_rollout_before_any_client_met_the_release(
    world: World, server: HookServer
) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    server.answers = [(403, "not on a Friday")]
    shipped = await world.ship("b", plan=hooked(server))
    await world.until_in_real_time(lambda: not world.row(shipped).active)
    view = await world.plane.reports.rollout(shipped)
    assert (view.outcome, view.ending) == ("failed", "hook_refused")
    assert "not on a Friday" in view.reason
    assert view.advice
    assert world.served.get("b", 0) == 0
    await world.until_in_real_time(lambda: server.points()[-1] == "after")
    assert server.calls[-1]["ending"] == "hook_refused"


async def test_the_end_is_told_by_the_control_that_comes_next(
    world: World, server: HookServer
) -> None:
    """Once it was, it is not told again."""
    plan = hooked(server, DIRECT, at=(Point.AFTER,))
    server.otherwise = (503, "")
    shipped = await world.ship("a", plan=plan)
    await world.until_in_real_time(lambda: len(server.calls) > 0)
    assert world.row(shipped).state == "promoted"
    assert read_rollout(world.row(shipped)).document.untold
    server.otherwise = (200, "")
    await world.restart()
    await world.until_in_real_time(lambda: not read_rollout(world.row(shipped)).document.untold)
    assert set(server.deliveries) == {f"{shipped}/after"}
    told = len(server.calls)
    await world.restart()
    for _ in range(5):
        await world.turn()
        await asyncio.sleep(0.01)
    assert len(server.calls) == told
