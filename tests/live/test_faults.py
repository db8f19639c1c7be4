"""Sixteen things go wrong under live traffic: each is told for what it is, and nothing else is.

The nearest change that could be known is the first cause of its alert, and what is declared is done
about it. In one installation first fairlead's own parts fail, while its monitors learn: a clock, a
replica, a judge, a disk, the observer. Then what changes is behind a provider's name, in what
people ask, or in a release that nobody has tried. One service has honest traffic all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.watching.watch_views import ActionView, AlertView, MonitorView
from fairlead.domain.errors import FairleadError
from support.faulty_parts import (
    full_disk,
    hanging_observer,
    kill_replica,
    worker_pid,
    wrong_clock,
)
from support.faulty_services import (
    EDITED,
    EXPLAINED,
    FAULTS,
    HONEST,
    QUANTISED,
    USUAL,
    Fault,
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
from support.recorded_engine import recorded_engine, text_of_question

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

AHEAD_S = 5.0
RATE = 5.0
"""Sessions a second of each service that has to learn what is usual; more where that is times,
which are learnt by load."""
RATES = {HONEST: 8.0, "slow": 8.0, "drifted": 18.0, "provider": 1.0, "unfair": 0.5, "judged": 3.0}
TELLING = (HONEST, "prompt")
"""Services whose users say which answers were right."""
PROBED = 14
"""Rounds of probes before the providers change."""
LEARNT_S, FOUND_S, DONE_S = 240.0, 240.0, 120.0

PARTS = {
    "": {"records", "clock_skew"},
    "flappy": {"replica_flapping", "replica_down"},
    "judged": {"judge_down", "monitor_blind"},
}
"""What may be told of fairlead's own parts, by service."""

NEEDED = {
    HONEST: ("errors", "latency", "format", "refusals", "length", "language", "quality"),
    "failing": ("errors",), "slow": ("latency",), "broken": ("format",),
    "refusing": ("refusals",), "dear": ("length",), "german": ("language",),
    "drifted": ("drift",),
}  # fmt: skip
"""Monitors that have to have learnt before anything goes wrong, by service."""

RELEASED = {
    "quantised": Fault(
        frozenset({"champion_over_limit"}), cause="release d", action="roll_back"
    ),
}  # fmt: skip
WORSE = ("prompt", "unfair", "quantised")
"""Services of which a worse release is shipped."""

Make = Callable[[], ServiceSpec]
Questions = list[tuple[str, str]]


@dataclass
class Alerts:
    """Who has to look at what, as of the last look and ever, by service."""

    installation: Installation
    firing: list[AlertView] = field(default_factory=list)
    ever: dict[str, set[str]] = field(default_factory=dict)

    def look(self) -> None:
        """Look anew."""
        found = self.installation.control.get(list[AlertView], "alerts", limit=1000)
        self.firing = [alert for alert in found if alert.severity != "info"]
        for alert in self.firing:
            self.ever.setdefault(alert.service, set()).add(alert.monitor)

    def of(self, service: str, *monitors: str) -> list[AlertView]:
        """Of a service, by these monitors, as of the last look."""
        return [a for a in self.firing if a.service == service and a.monitor in monitors]

    def told(self) -> str:
        """All of it, for a test that fails."""
        found = [
            f"{a.service} {a.monitor}: {a.summary} {[c.words for c in a.causes]}"
            for a in self.firing
        ]
        monitors = self.installation.control.get(list[MonitorView], "monitors")
        found += [f"{m.service} {m.monitor}: {m.standing} {m.trouble}" for m in monitors]
        return "\n".join(found)


async def until(done: Callable[[], bool], what: Callable[[], object], seconds: float) -> None:
    """Wait for a condition; a control that is too busy to answer counts as not done."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(FairleadError):
            if await asyncio.to_thread(done):
                return
        assert time.monotonic() < deadline, str(what())
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def traffic(sources: Sequence[Users | Load]) -> AsyncIterator[None]:
    """They come until this ends."""
    stop = asyncio.Event()
    coming = [asyncio.create_task(one.run(stop)) for one in sources]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*coming)


@pytest.fixture
def skewed(tmp_path: Path) -> Iterator[Installation]:
    """A running installation in which the clock of one gateway worker is wrong."""
    with running(tmp_path / "state", environ=wrong_clock(1, AHEAD_S)) as made:
        made.make_key()
        yield made


@pytest.fixture
def judge() -> Iterator[AnsweringReplica]:
    """A judge model, until somebody closes it."""
    made = AnsweringReplica(lambda asked: json.dumps({"reason": "as ever", "score": 5}))
    yield made
    made.close()


async def test_each_fault_is_told_with_its_cause_and_honest_traffic_raises_nothing(
    skewed: Installation, judge: AnsweringReplica, questions: Questions
) -> None:
    installation, alerts = skewed, Alerts(skewed)
    models = {name: fault.model for name, fault in FAULTS.items()}
    models |= {HONEST: USUAL, "judged": USUAL}
    topics = Topics([text for text, _ in questions])
    async with recorded_engine(models) as port:
        releases = await first_releases(installation, port, int(judge.url.rpartition(":")[2]))
        users = {name: users_of(installation, name) for name in models}
        users["drifted"].says["drifted"] = topics.say
        for name in (HONEST, "german"):
            users[name].says[name] = english

        quantised = Load(
            installation.gateway, installation.key, questions, RATE, service="quantised",
            feedback=True,
        )  # fmt: skip
        async with traffic([*users.values(), quantised]):
            await parts_fail(alerts, judge, releases["flappy"])
            await learnt(alerts)
            before, alerts.ever = alerts.ever, {}
            for name, fault in FAULTS.items():
                models[name] = fault.after or models[name]
            topics.change()
            users["german"].says["german"] = german
            await ship_worse(installation, port)
            await all_told(alerts)
            await all_done(installation, releases)
    for service, monitors in before.items():
        assert monitors <= PARTS.get(service, set()), (service, before, alerts.told())
    assert HONEST not in alerts.ever, alerts.told()


async def first_releases(installation: Installation, port: int, judge: int) -> dict[str, str]:
    """Digests by service. What others fall back to has to be there first."""
    made = await promoted(installation, {HONEST: lambda: hosted(installation, HONEST, port)})
    makes: dict[str, Make] = {name: partial(hosted, installation, name, port) for name in FAULTS}
    makes["judged"] = lambda: judged(installation, port, judge)
    makes["flappy"] = lambda: local(installation, "flappy", "b", context=1280, replicas=2)
    makes["quantised"] = lambda: local(installation, "quantised", "b", context=1536, more=QUANTISED)
    return made | await promoted(installation, makes)


async def promoted(installation: Installation, makes: Mapping[str, Make]) -> dict[str, str]:
    """Ship a release to each of these services, and wait until they serve; their digests."""
    made = {name: await asyncio.to_thread(make) for name, make in makes.items()}
    shipped = [await asyncio.to_thread(installation.ship, spec) for spec in made.values()]

    def outcomes() -> set[str]:
        return {installation.rollout(one.id).outcome for one in shipped}

    await until(lambda: "running" not in outcomes(), installation.log, 120.0)
    assert outcomes() == {"promoted"}, installation.log()
    return {name: spec.release for name, spec in made.items()}


def users_of(installation: Installation, service: str) -> Users:
    return Users(
        installation.gateway,
        installation.key,
        [service],
        RATES.get(service, RATE),
        seed=len(service) + ord(service[0]),
        silent=service not in TELLING,
    )


# fairlead's own parts


async def parts_fail(alerts: Alerts, judge: AnsweringReplica, flappy: str) -> None:
    """All at once: the judge is gone, a replica flaps, a disk is full, the observer hangs."""
    installation = alerts.installation
    await until(lambda: judging(installation).judged_today > 3, alerts.told, 60.0)
    await asyncio.to_thread(judge.close)
    await until(lambda: bool(judging(installation).said), alerts.told, 60.0)
    async with asyncio.TaskGroup() as both:
        killing = both.create_task(asyncio.to_thread(kill_replica, installation, flappy, 4))
        both.create_task(records_stay_out(alerts))
    replica = killing.result()
    await until(lambda: are_told(alerts), alerts.told, 90.0)
    (skew,) = alerts.of("", "clock_skew")
    assert "gateway worker 1 is " in skew.summary
    assert " ahead of control's" in skew.summary
    (out,) = alerts.of("judged", "judge_down")
    assert "the judge model of live traffic gives no verdict" in out.summary
    (flaps,) = alerts.of("flappy", "replica_flapping")
    assert flaps.labels["replica"] == replica.id
    assert f"replica {replica.id} " in flaps.causes[0].words


def judging(installation: Installation) -> LiveJudgingView:
    """How far the judge is with live answers."""
    (found,) = [one.live_judging for one in installation.status().services if one.name == "judged"]
    assert found is not None
    return found


async def records_stay_out(alerts: Alerts) -> None:
    """Nobody reads the spools, and for a while one of them cannot be written either."""
    installation = alerts.installation
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, hanging_observer(installation))
        with full_disk(await asyncio.to_thread(worker_pid, installation, 0)):
            await until(lambda: is_told(alerts, fault="spool"), alerts.told, 60.0)
        await until(lambda: is_told(alerts, fault="behind"), alerts.told, 120.0)


def are_told(alerts: Alerts) -> bool:
    """Whether the clock, the judge and the replica are."""
    alerts.look()
    parts = (("", "clock_skew"), ("judged", "judge_down"), ("flappy", "replica_flapping"))
    return all(alerts.of(*part) for part in parts)


def is_told(alerts: Alerts, *, fault: str) -> bool:
    """Whether this is said of records."""
    alerts.look()
    return any(one.labels["fault"] == fault for one in alerts.of("", "records"))


async def learnt(alerts: Alerts) -> None:
    """Every monitor that is needed has learnt what is usual."""
    control = alerts.installation.control

    def is_ready() -> bool:
        alerts.look()
        watched = control.get(list[MonitorView], "monitors")
        needed = [m for m in watched if m.monitor in NEEDED.get(m.service, ())]
        probed = min(view.rounds for view in control.get(list[ProbesView], "probes"))
        return (
            probed >= PROBED
            and len(needed) == sum(map(len, NEEDED.values()))
            and not any(m.standing.removeprefix("prompts: ").startswith("learn") for m in needed)
        )

    await until(is_ready, alerts.told, LEARNT_S)


# services


async def ship_worse(installation: Installation, port: int) -> None:
    """Releases that nobody has tried: an edited prompt twice, and weights that were broken."""
    edited = partial(hosted, installation, port=port, name="edited", words=EDITED)
    makes: dict[str, Make] = {
        "prompt": lambda: edited(service="prompt"),
        "unfair": lambda: edited(service="unfair"),
        "quantised": lambda: local(installation, "quantised", "d", context=1536, more=QUANTISED),
    }
    await promoted(installation, makes)


async def all_told(alerts: Alerts) -> None:
    """Each fault has its alert, with the right cause on top, and there are no others."""
    expected = FAULTS | RELEASED
    told: dict[str, AlertView] = {}

    def look() -> bool:
        alerts.look()
        for service in expected.keys() - told.keys():
            for alert in alerts.of(service, *expected[service].monitors):
                if fits(alert, expected[service]):
                    told[service] = alert
        return told.keys() == expected.keys()

    await until(look, lambda: (expected.keys() - told.keys(), alerts.told()), FOUND_S)
    for service, monitors in alerts.ever.items():
        fault = expected.get(service)
        own = PARTS.get(service, set()) if fault is None else fault.monitors | fault.besides
        allowed = own if fault is None else own | EXPLAINED
        assert monitors <= allowed, (service, alerts.told())


def fits(alert: AlertView, fault: Fault) -> bool:
    """Whether it says what it has to, with the right cause as its first."""
    first = alert.causes[0].words if alert.causes else ""
    return fault.cause in first and fault.said in alert.summary


async def all_done(installation: Installation, first: dict[str, str]) -> None:
    """What is declared was done, and had its effect."""
    wanted = {name: f.action for name, f in (FAULTS | RELEASED).items() if f.action}
    done: dict[str, ActionView] = {}

    def look() -> bool:
        for action in installation.control.get(list[ActionView], "actions"):
            if action.verdict == "act" and action.settled_at is not None:
                done[action.service] = action
        serving = {row.name: row.champion for row in installation.status().services}
        return wanted.keys() <= done.keys() and all(serving[n] == first[n] for n in WORSE)

    await until(look, lambda: (wanted, done), DONE_S)
    assert {name: action.kind for name, action in done.items()} == wanted
    diverted = {
        view.service
        for view in installation.control.get(list[ProbesView], "probes")
        if view.is_diverted
    }
    assert diverted == {"provider"}


def test_the_text_of_questions_is_what_the_engine_reads() -> None:
    said = [german(7), english(7), Topics(["Where is my card"]).say(7)]
    assert {text.rpartition(" ")[2] for text in said} == {text_of_question(7).rpartition(" ")[2]}
