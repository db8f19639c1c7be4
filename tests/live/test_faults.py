"""Fifteen faults under live traffic: each raises the alert that says what it is, and no other one.

The nearest change that could be known is its first cause, and what is declared is done. Two
installations run at once: in one of them what changes is behind a provider's name, in what people
ask, in a release or in a replica's speed; in the other one fairlead's own parts fail. Each of them
has a service with honest traffic all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.watching.watch_views import ActionView, AlertView, MonitorView
from support.faulty_parts import (
    change_weights,
    environment,
    full_disk,
    hangs,
    kill_again_and_again,
    replicas_of,
    set_clock,
    throttled,
    worker_pid,
)
from support.faulty_services import (
    DISLIKED,
    EDITED,
    EXPLAINED,
    FAULTS,
    HONEST,
    LEARN,
    Topics,
    english,
    german,
    hosted,
    judged,
    local,
)
from support.installation import Installation, running
from support.live_rollouts import Users
from support.load import Load
from support.recorded_engine import Model, recorded_engine, text_of_question

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

RATE, RATE_OF_TOPICS = 8.0, 20.0
"""Sessions a second of each service; more where a thousand texts are needed first."""
LOCAL_RATE = 24.0
"""Requests a second to the three replicas of which one becomes slow."""
FOUND_S = 300.0
AHEAD_S = 20.0
PROBED = 18
"""Rounds of probes before the provider changes."""
WORSE = {"prompt", "unfair", "quantised"}
"""Services of which another release is shipped."""

Questions = list[tuple[str, str]]


@dataclass
class Alerts:
    """What fires in an installation, by service."""

    installation: Installation
    seen: list[AlertView] = field(default_factory=list)

    def look(self) -> dict[str, set[str]]:
        """The monitors that have an alert which somebody has to look at."""
        firing = self.installation.control.get(list[AlertView], "alerts")
        self.seen = [alert for alert in firing if alert.severity != "info"]
        found: dict[str, set[str]] = {}
        for alert in self.seen:
            found.setdefault(alert.service, set()).add(alert.monitor)
        return found

    def of(self, service: str, *monitors: str) -> list[AlertView]:
        """As of the last look."""
        return [a for a in self.seen if a.service == service and a.monitor in monitors]

    def told(self) -> list[str]:
        """All of it, for a test that fails."""
        found = [f"{a.service} {a.monitor} {a.summary}" for a in self.seen]
        monitors = self.installation.control.get(list[MonitorView], "monitors")
        return found + [f"{m.service} {m.monitor}: {m.standing} {m.trouble}" for m in monitors]


async def until(done: Callable[[], bool], what: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(done):
        assert time.monotonic() < deadline, str(what())
        await asyncio.sleep(0.5)


async def promoted(installation: Installation, make: Callable[[], ServiceSpec]) -> str:
    """Ship a release, and wait until it serves; its digest."""
    made = await asyncio.to_thread(make)
    shipped = await asyncio.to_thread(installation.ship, made)
    ended = await asyncio.to_thread(installation.finish, shipped.id)
    assert ended.outcome == "promoted", ended
    return made.release


@contextlib.asynccontextmanager
async def traffic(*sources: Users | Load) -> AsyncIterator[None]:
    """They come until this ends; a wrong answer is no error of the test, none at all is."""
    stop = asyncio.Event()
    coming = [asyncio.create_task(one.run(stop)) for one in sources]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*coming)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Installation, Installation]]:
    """The installation whose services go wrong, and the one whose own parts do."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("services", "parts"):
            state = tmp_path / name / "state"
            state.parent.mkdir()
            made.append(stack.enter_context(running(state, environ=environment(state))))
            made[-1].make_key()
        yield made[0], made[1]


async def test_each_of_fifteen_faults_is_told_with_its_cause_and_honest_traffic_raises_nothing(
    both: tuple[Installation, Installation], questions: Questions
) -> None:
    services, parts = both
    ended = await asyncio.gather(
        faults_of_services(services, questions),
        faults_of_parts(parts, questions),
        return_exceptions=True,
    )
    for error in ended:
        if error is not None:
            raise error


# What happens to services


async def faults_of_services(installation: Installation, questions: Questions) -> None:
    """Behind a provider's name, in what people ask, in releases, and in a replica's speed."""
    names = [HONEST, *FAULTS]
    models = {name: Model() for name in names} | {"prompt": Model(confused_by=EDITED)}
    topics = Topics([text for text, _ in questions])
    async with recorded_engine(models) as port:
        first = await _first_releases(installation, names, port)
        users = {
            name: Users(installation.gateway, installation.key, [name], RATE, seed)
            for seed, name in enumerate(names)
        }
        users["drifted"].rate = RATE_OF_TOPICS
        users["drifted"].says["drifted"] = topics.say
        users["german"].says["german"] = english
        loads = [
            Load(installation.gateway, installation.key, questions, rate, service=name)
            for name, rate in (("quantised", RATE), ("crowded", LOCAL_RATE))
        ]
        async with traffic(*users.values(), *loads):
            await _learnt(installation, users)
            with throttled(replicas_of(installation, first["crowded"])[0].pid):
                for name, fault in FAULTS.items():
                    models[name] = fault.after or models[name]
                topics.change()
                users["german"].says["german"] = german
                await _ship_worse(installation, port)
                models["unfair"] = Model(unfair_to=DISLIKED)
                await _all_told(installation, first)


async def _first_releases(
    installation: Installation, names: list[str], port: int
) -> dict[str, str]:
    """Digests by service; one after the other, since what they fall back to has to be there."""
    first = {
        name: await promoted(installation, lambda name=name: hosted(installation, name, port))
        for name in names
    }
    first["quantised"] = await promoted(
        installation, lambda: local(installation, "quantised", "b", context=1280)
    )
    first["crowded"] = await promoted(
        installation, lambda: local(installation, "crowded", "b", replicas=3, calm=20_000)
    )
    return first


async def _learnt(installation: Installation, users: dict[str, Users]) -> None:
    """Every monitor has learnt what is usual, and has nothing to say."""
    alerts = Alerts(installation)

    def is_ready() -> bool:
        watched = installation.control.get(list[MonitorView], "monitors")
        needed = [m for m in watched if m.monitor in NEEDED.get(m.service, ())]
        few = min(one.statuses[200] for one in users.values()) <= 2 * LEARN
        (probes,) = installation.control.get(list[ProbesView], "probes")
        few = few or probes.rounds < PROBED
        return not few and len(needed) >= len(NEEDED) and not any(map(_learns, needed))

    await until(is_ready, alerts.told, FOUND_S)
    assert alerts.look() == {}, alerts.told()
    (probes,) = installation.control.get(list[ProbesView], "probes")
    assert probes.change is None


NEEDED = {
    "slow": ("latency",), "broken": ("format",), "refusing": ("refusals",), "dear": ("length",),
    "german": ("language",), "drifted": ("drift",), "crowded": ("slow_replica",),
}  # fmt: skip
"""Monitors that have to have learnt first, by service."""


def _learns(one: MonitorView) -> bool:
    return "learn" in one.standing


async def _ship_worse(installation: Installation, port: int) -> None:
    """Releases that nobody has tried: an edited prompt twice, and weights that were broken."""
    for name in ("prompt", "unfair"):
        await promoted(
            installation,
            lambda name=name: hosted(installation, name, port, name="edited", words=EDITED),
        )
    await promoted(installation, lambda: local(installation, "quantised", "d", context=1280))


async def _all_told(installation: Installation, first: dict[str, str]) -> None:
    alerts = Alerts(installation)
    slow = replicas_of(installation, first["crowded"])[0].id
    expected = {name: set(fault.monitors) for name, fault in FAULTS.items()}
    expected |= {"quantised": {"champion_over_limit"}, "crowded": {"slow_replica"}}
    missing = dict(expected)
    told: dict[str, AlertView] = {}
    ever: dict[str, set[str]] = {}

    def look() -> bool:
        for service, monitors in alerts.look().items():
            ever.setdefault(service, set()).update(monitors)
        for service, monitors in list(missing.items()):
            if found := alerts.of(service, *monitors):
                told[service] = found[0]
                del missing[service]
        return not missing

    await until(look, lambda: (missing, alerts.told()), FOUND_S)
    assert HONEST not in ever, alerts.told()
    for service, monitors in expected.items():
        besides = FAULTS[service].besides if service in FAULTS else set()
        allowed = monitors | besides | EXPLAINED
        assert ever[service] <= allowed, (service, ever[service], alerts.told())
    assert told["crowded"].labels["replica"] == slow, told["crowded"].summary
    causes = {name: fault.cause for name, fault in FAULTS.items()} | {"quantised": "release d"}
    for service, cause in causes.items():
        nearest = told[service].causes[0].words if told[service].causes else ""
        assert cause in nearest, (service, told[service].causes)
    await _all_done(installation, first)


async def _all_done(installation: Installation, first: dict[str, str]) -> None:
    """What is declared was done, and had its effect."""
    wanted = {name: fault.action for name, fault in FAULTS.items() if fault.action}
    wanted["quantised"] = "roll_back"
    done: dict[str, ActionView] = {}

    def look() -> bool:
        for action in installation.control.get(list[ActionView], "actions"):
            if action.verdict == "act" and action.settled_at is not None:
                done[action.service] = action
        serving = {row.name: row.champion for row in installation.status().services}
        is_back = all(serving[name] == first[name] for name in WORSE)
        return wanted.keys() <= done.keys() and is_back

    await until(look, lambda: (wanted, done), 60.0)
    assert {name: action.kind for name, action in done.items()} == wanted
    (probes,) = installation.control.get(list[ProbesView], "probes")
    assert probes.is_diverted


# What happens to fairlead's own parts


async def faults_of_parts(installation: Installation, questions: Questions) -> None:
    """A replica that flaps, changed weights, a judge that is gone, a full disk, a wrong clock, and
    an observer that hangs."""
    alerts = Alerts(installation)
    judge = AnsweringReplica(lambda asked: json.dumps({"reason": "as ever", "score": 5}))
    judge_port = int(judge.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        closing = stack.enter_context(contextlib.ExitStack())
        closing.callback(judge.close)
        async with recorded_engine({HONEST: Model(), "judged": Model()}) as port:
            await promoted(installation, lambda: hosted(installation, HONEST, port))
            flappy = await promoted(
                installation, lambda: local(installation, "flappy", "b", replicas=2)
            )
            await promoted(installation, lambda: judged(installation, "first", port, judge_port))
            made = await asyncio.to_thread(judged, installation, "second", port, judge_port)
            rollout = (await asyncio.to_thread(installation.ship, made)).id
            users = Users(installation.gateway, installation.key, [HONEST, "judged"], RATE)
            load = Load(installation.gateway, installation.key, questions, RATE, service="flappy")
            async with traffic(users, load):
                await until(lambda: _judged(installation, rollout) > 10, alerts.told, 120.0)
                await asyncio.to_thread(closing.close)
                await _replica_flaps(alerts, flappy)
                await _disk_is_full(alerts)
                await _clock_is_wrong_and_observer_hangs(alerts)
            assert users.lost == []
            assert {reply.status for reply in load.replies} == {200}
    assert alerts.look().keys() <= {"", "flappy", "judged"}, alerts.told()


def _judged(installation: Installation, rollout: str) -> int:
    view = installation.rollout(rollout).judging
    return 0 if view is None else view.judged


async def _replica_flaps(alerts: Alerts, release: str) -> None:
    """One alert, however often; after it the release's files are changed, too."""
    installation = alerts.installation
    replica = await asyncio.to_thread(kill_again_and_again, installation, release, 4)

    def says(monitor: str) -> bool:
        return monitor in alerts.look().get("flappy", set())

    await until(lambda: says("replica_flapping"), alerts.told, 60.0)
    (flaps,) = alerts.of("flappy", "replica_flapping")
    assert flaps.labels["replica"] == replica
    assert f"replica {replica}" in flaps.causes[0].words
    await asyncio.to_thread(change_weights, installation, release)
    await until(lambda: says("release_damaged"), alerts.told, 60.0)
    (damaged,) = alerts.of("flappy", "release_damaged")
    assert "does not match its digest" in damaged.summary


async def _disk_is_full(alerts: Alerts) -> None:
    """What a worker cannot write waits in memory, and is said."""

    def is_told() -> bool:
        alerts.look()
        return any(a.labels.get("fault") == "spool" for a in alerts.of("", "records"))

    with full_disk(await asyncio.to_thread(worker_pid, alerts.installation, 0)):
        await until(is_told, alerts.told, 60.0)


async def _clock_is_wrong_and_observer_hangs(alerts: Alerts) -> None:
    installation = alerts.installation
    await asyncio.to_thread(set_clock, installation, 1, AHEAD_S)
    (observer,) = installation.pids("observer_process")
    await until(lambda: hangs(installation, observer), lambda: "it holds the store", 60.0)

    def is_told() -> bool:
        found = alerts.look()
        behind = any(a.labels.get("fault") == "behind" for a in alerts.of("", "records"))
        return behind and "clock_skew" in found[""] and "judge_down" in found.get("judged", ())

    try:
        await until(is_told, alerts.told, 150.0)
    finally:
        os.kill(observer, signal.SIGCONT)
    (skew,) = alerts.of("", "clock_skew")
    assert "gateway worker 1 is " in skew.summary
    assert " ahead of control's" in skew.summary
    assert {a.monitor for a in alerts.of("judged", *(a.monitor for a in alerts.seen))} == {
        "judge_down"
    }


def test_the_text_of_questions_is_what_the_engine_reads() -> None:
    said = [german(7), english(7), Topics(["Where is my card"]).say(7)]
    assert {text.rpartition(" ")[2] for text in said} == {text_of_question(7).rpartition(" ")[2]}
