"""Sixteen things go wrong under live traffic: each is told for what it is, and nothing else is.

The nearest change that could be known is the first cause of its alert, what is declared is done
about it, and that helps. In one installation first fairlead's own parts fail, while its monitors
learn: a clock, a replica, a judge, a disk, the observer. Then what changes is behind a provider's
name, in what people ask, or in a release that nobody has tried. One service has honest traffic all
the time, and each request is recorded once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.watching.watch_views import ActionView, AlertView, MonitorView
from support.done_actions import Clients, check_fallbacks, check_proposals, check_way_back, telling
from support.faulty_parts import (
    full_disk,
    hanging_observer,
    kill_observer,
    kill_replica,
    recorded,
    worker_pid,
    wrong_clock,
)
from support.faulty_services import (
    BROKEN_WEIGHTS,
    EDITED,
    FAULTS,
    HONEST,
    QUANTISED,
    USUAL,
    Topics,
    english,
    german,
    hosted,
    judged,
    local,
)
from support.installation import Installation, running
from support.live_rollouts import Users
from support.load import Load, traffic
from support.recorded_engine import recorded_engine, text_of_question
from support.told_alerts import Alerts, Make, all_done, all_told, assert_only, promoted, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

AHEAD_S = 5.0
RATE = 5.0
"""Sessions a second of each service that has to learn what is usual; more where that is times,
which are learnt by load."""
RATES = {HONEST: 8.0, "slow": 8.0, "drifted": 18.0, "provider": 1.0, "unfair": 0.5, "judged": 3.0}
TELLING = (HONEST, "prompt")
"""Services whose users say which answers were right."""
IN_ENGLISH = (HONEST, "german", "refusing")
"""Services whose users ask in sentences."""
PROBED = 14
"""Rounds of probes before the providers change."""
LEARNT_S, FOUND_S, DONE_S, RECORDED_S = 240.0, 240.0, 120.0, 60.0

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

EXPECTED = FAULTS | BROKEN_WEIGHTS

Questions = list[tuple[str, str]]


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
    installation, alerts, clients = skewed, Alerts(skewed), Clients(skewed)
    models = {name: fault.model for name, fault in FAULTS.items()}
    models |= {HONEST: USUAL, "judged": USUAL}
    topics = Topics([text for text, _ in questions])
    async with recorded_engine(models) as engine:
        port = engine.port
        first = await first_releases(installation, port, int(judge.url.rpartition(":")[2]))
        users = {name: users_of(installation, name) for name in models}
        users["drifted"].says["drifted"] = topics.say
        for name in IN_ENGLISH:
            users[name].says[name] = english
        quantised = Load(
            installation.gateway, installation.key, questions, RATE, service="quantised",
            feedback=True,
        )  # fmt: skip
        async with traffic([*users.values(), quantised]):
            await parts_fail(alerts, judge, first["flappy"], users)
            await learnt(alerts)
            before, alerts.ever = alerts.ever, {}
            asked = telling([text for text, _ in questions])
            answered = {name: await clients.ask(name, texts) for name, texts in asked.items()}
            await engine.become({n: one.after for n, one in FAULTS.items() if one.after})
            topics.change()
            users["german"].says["german"] = german
            worse = await worse_releases(installation, port)
            await all_told(alerts, EXPECTED.items(), {"first": first, "worse": worse}, FOUND_S)
            done = await actions_done(installation, first, worse)
            await check_way_back(clients, answered, asked, first)
            await check_fallbacks(installation, clients, first)
            await asyncio.to_thread(check_proposals, installation, done, first)
            await nothing_else(alerts)
    assert_only(before, PARTS, alerts)
    sent = {name: [*one.ids, *clients.ids.get(name, [])] for name, one in users.items()}
    await each_recorded_once(installation, sent)


async def first_releases(installation: Installation, port: int, judge: int) -> dict[str, str]:
    """Digests by service. What others fall back to has to be there first."""
    made = await promoted(installation, {HONEST: lambda: hosted(installation, HONEST, port)})
    makes: dict[str, Make] = {name: partial(hosted, installation, name, port) for name in FAULTS}
    makes["judged"] = lambda: judged(installation, port, judge)
    makes["flappy"] = lambda: local(installation, "flappy", "b", context=1280, replicas=2)
    makes["quantised"] = lambda: local(installation, "quantised", "b", context=1536, more=QUANTISED)
    return made | await promoted(installation, makes)


async def worse_releases(installation: Installation, port: int) -> dict[str, str]:
    """Digests of releases that nobody has tried: an edited prompt twice, and broken weights."""
    edited = partial(hosted, installation, port=port, name="edited", words=EDITED)
    makes: dict[str, Make] = {
        "prompt": lambda: edited(service="prompt"),
        "unfair": lambda: edited(service="unfair"),
        "quantised": lambda: local(installation, "quantised", "d", context=1536, more=QUANTISED),
    }
    return await promoted(installation, makes)


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


async def parts_fail(
    alerts: Alerts, judge: AnsweringReplica, flappy: str, users: Mapping[str, Users]
) -> None:
    """All at once: the judge is gone, a replica flaps, a disk is full, the observer is killed."""
    installation = alerts.installation
    await until(lambda: judging(installation).judged_today > 3, alerts.told, 60.0)
    await asyncio.to_thread(judge.close)
    await until(lambda: bool(judging(installation).said), alerts.told, 60.0)
    async with asyncio.TaskGroup() as both:
        killing = both.create_task(asyncio.to_thread(kill_replica, installation, flappy, 4))
        both.create_task(records_stay_out(alerts, users))
    replica = killing.result()
    await until(lambda: are_told(alerts), alerts.told, 90.0)
    (skew,) = alerts.of("", "clock_skew")
    assert "gateway worker 1 is " in skew.summary
    assert " ahead of control's" in skew.summary
    clock = first_cause(skew)
    assert clock[0] == "clock"
    assert "gateway worker 1 is " in clock[1]
    (out,) = alerts.of("judged", "judge_down")
    assert "the judge model of live traffic gives no verdict" in out.summary
    provider = first_cause(out)
    assert provider[0] == "provider"
    host = judge.url.rpartition("/")[2]
    assert provider[1].startswith(f"the judge's provider {host} gives no verdict: not reached: ")
    (flaps,) = alerts.of("flappy", "replica_flapping")
    assert flaps.labels["replica"] == replica.id
    nearest = flaps.causes[0].change
    assert (nearest.kind, dict(nearest.labels)["replica"]) == ("replica", replica.id)


def judging(installation: Installation) -> LiveJudgingView:
    """How far the judge is with live answers."""
    (found,) = [one.live_judging for one in installation.status().services if one.name == "judged"]
    assert found is not None
    return found


async def records_stay_out(alerts: Alerts, users: Mapping[str, Users]) -> None:
    """The observer is killed at its work; the next one hangs, while a disk is full, and is killed.

    What was asked meanwhile is recorded by the one that is started then, and the alerts are over.
    """
    installation = alerts.installation

    async def killed() -> None:
        await asyncio.to_thread(kill_observer, installation)
        await all_recorded(installation, {name: list(one.ids) for name, one in users.items()})

    await killed()
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, hanging_observer(installation))
        with full_disk(await asyncio.to_thread(worker_pid, installation, 0)):
            await until(lambda: bool(of_records(alerts, "spool")), alerts.told, 60.0)
        (spool,) = of_records(alerts, "spool")
        kind, what = first_cause(spool)
        assert kind == "records"
        # It is a limit of the process here; of a disk that is full it says so.
        assert what.startswith("gateway worker 0 cannot write its records, though its disk has ")
        await until(lambda: bool(of_records(alerts, "behind")), alerts.told, 120.0)
        (behind,) = of_records(alerts, "behind")
        kind, what = first_cause(behind)
        assert kind == "observer"
        assert what.startswith("the observer has not said anything for ")
        ended = "the observer ended, and another one was started"
        assert ended in [cause.change.what for cause in behind.causes]
        await killed()

    def are_over() -> bool:
        told = of_records(alerts, "spool", "behind", "lost")
        return all(one.away_since and one.labels["fault"] != "lost" for one in told)

    await until(are_over, alerts.told, 60.0)


def first_cause(alert: AlertView) -> tuple[str, str]:
    """Kind of the change that is nearest to it, which was seen, and what happened."""
    assert alert.causes, alert.summary
    change = alert.causes[0].change
    assert not change.is_inferred
    return change.kind, change.what


def of_records(alerts: Alerts, *faults: str) -> list[AlertView]:
    """What is said of records, just now."""
    alerts.look()
    return [one for one in alerts.of("", "records") if one.labels["fault"] in faults]


def are_told(alerts: Alerts) -> bool:
    """Whether the clock, the judge and the replica are."""
    alerts.look()
    parts = (("", "clock_skew"), ("judged", "judge_down"), ("flappy", "replica_flapping"))
    return all(alerts.of(*part) for part in parts)


async def all_recorded(installation: Installation, sent: Mapping[str, list[str]]) -> Counter[str]:
    """All these requests are in the store; how often each of their services' is."""
    found: Counter[str] = Counter()

    def missing() -> list[str]:
        return [one for ids in sent.values() for one in ids if one not in found]

    def are_there() -> bool:
        found.clear()
        found.update(recorded(installation, sent))
        return not missing()

    await until(are_there, lambda: (len(missing()), missing()[:5]), RECORDED_S)
    return found


async def each_recorded_once(installation: Installation, sent: Mapping[str, list[str]]) -> None:
    """Each request of these services, and nothing else, is recorded; each one once."""
    found = await all_recorded(installation, sent)
    assert found == Counter(one for ids in sent.values() for one in ids)


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


async def nothing_else(alerts: Alerts) -> None:
    """What was told besides is a consequence of a fault, of the same service."""
    await until(lambda: alerts.look() is None, alerts.told, 30.0)
    assert HONEST not in alerts.ever, alerts.told()
    allowed = {name: set(fault.may_tell) for name, fault in EXPECTED.items()}
    assert_only(alerts.ever, PARTS | allowed, alerts)


async def actions_done(
    installation: Installation, first: Mapping[str, str], worse: Mapping[str, str]
) -> dict[str, ActionView]:
    """What is declared was carried out, by service; the first releases serve again."""
    wanted = {name: fault.action for name, fault in EXPECTED.items() if fault.action}
    serving = {name: first[name] for name in worse}
    done = await all_done(installation, wanted, serving, DONE_S)
    assert {name: done[name].target for name in worse} == serving
    return done


def test_the_text_of_questions_is_what_the_engine_reads() -> None:
    said = [german(7), english(7), Topics(["Where is my card"]).say(7)]
    assert {text.rpartition(" ")[2] for text in said} == {text_of_question(7).rpartition(" ")[2]}
