"""What only a few users feel, or what shows in items and vectors alone, is told for what it is.

In one installation a provider becomes slow to one API key, a new release answers a published
benchmark worse, one of two segments asks for something else, a model that makes the vectors by
which drift goes is away while users ask for something else, and what users come to ask is answered
in a form that a gate forbids. Each has its alert with the right cause, and nothing else is told.
What is declared is done: the release before serves again, and what is asked becomes cases, which
the release fails.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.acting.suite_versions import SuiteVersion
from fairlead.control.bias.tracking_views import TrackedView
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.watching.watch_views import ActionView, AlertView, IncidentView, MonitorView
from fairlead.domain.verdicts import GateOutcome
from fairlead.evaluation.stereotypes import LETTERS, bbq_suite, expected_bbq
from support.faulty_parts import kill_replica
from support.faulty_services import DISHES, EDITED
from support.installation import Installation
from support.load import traffic
from support.newer_services import (
    BY_MODEL,
    CALM,
    CONSEQUENCES,
    FAULTS,
    GATE,
    ITEMS,
    KEYED,
    OF_VECTORS,
    RATES,
    SCORED,
    SEGMENTED,
    SLOW_KEY,
    SUITED,
    VECTORS,
    Talk,
    release_of,
    vectors,
    write_bbq,
)
from support.recorded_engine import Recorded, recorded_engine
from support.told_alerts import Alerts, Make, all_done, all_told, assert_only, promoted, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

LEARNT_S, FOUND_S, DONE_S, OVER_S = 240.0, 150.0, 90.0, 60.0
NEEDED = {
    KEYED: ("latency", "slow_key"), SEGMENTED: ("drift",), BY_MODEL: ("drift", "answer_drift"),
    SUITED: ("drift",),
}  # fmt: skip
"""Monitors that have to have learnt before anything goes wrong, by service."""
KILLS = 7
"""After so many a replica is away for some seconds each time."""

Questions = list[tuple[str, str]]


@pytest.fixture
def judge() -> Iterator[AnsweringReplica]:
    """A judge model to whom all answers are good."""
    made = AnsweringReplica(lambda asked: json.dumps({"reason": "as ever", "score": 5}))
    yield made
    made.close()


async def test_each_fault_is_told_of_whom_it_is_about_and_nothing_else_is(
    installation: Installation, judge: AnsweringReplica, questions: Questions
) -> None:
    alerts, talk = Alerts(installation), Talk([text for text, _ in questions])
    names = sorted({key for _, key in RATES})
    keys = {name: await asyncio.to_thread(installation.make_key, name) for name in names}
    async with recorded_engine({name: fault.model for name, fault in FAULTS.items()}) as engine:
        make = partial(
            release_of, installation, port=engine.port, judge=int(judge.url.rpartition(":")[2])
        )
        first = await first_releases(installation, make)
        visitors = talk.visitors(installation, keys)
        async with traffic(visitors):
            await until(partial(have_learnt, alerts), alerts.told, LEARNT_S)
            assert_only(alerts.ever, {}, alerts)
            async with asyncio.TaskGroup() as group:
                kills = asyncio.to_thread(kill_replica, installation, first[VECTORS], KILLS)
                group.create_task(kills)
                await until(partial(is_blind, alerts), alerts.told, FOUND_S)
                # What is asked from now on waits for vectors.
                talk.change()
                await engine.become({n: one.after for n, one in FAULTS.items() if one.after})
                worse = await promoted(installation, {SCORED: partial(make, SCORED, words=EDITED)})
                told = (*FAULTS.items(), *CONSEQUENCES)
                await all_told(alerts, told, {"first": first, "worse": worse}, FOUND_S)
            wanted = {name: fault.action for name, fault in FAULTS.items() if fault.action}
            done = await all_done(installation, wanted, {SCORED: first[SCORED]}, DONE_S)
            await until(partial(is_seen_again, alerts), alerts.told, OVER_S)
            await asyncio.to_thread(check_labels, alerts)
            version = await asyncio.to_thread(check_cases, installation, done[SUITED])
            assert version.release == first[SUITED]
            await until(partial(is_in_timeline, installation, version), alerts.told, OVER_S)
    allowed = {name: fault.may_tell for name, fault in FAULTS.items()} | {VECTORS: OF_VECTORS}
    assert_only(alerts.ever, allowed, alerts)
    assert {status for one in visitors for status in one.statuses} == {200}


async def first_releases(installation: Installation, make: partial[ServiceSpec]) -> dict[str, str]:
    """Digests by service. The vectors have to be there first: others of them are learnt anew."""
    made = await promoted(installation, {VECTORS: partial(vectors, installation)})
    makes: dict[str, Make] = {name: partial(make, name) for name in FAULTS}
    return made | await promoted(installation, makes)


def have_learnt(alerts: Alerts) -> bool:
    """Whether every monitor that is needed has learnt what is usual."""
    alerts.look()
    control = alerts.installation.control
    watched = control.get(list[MonitorView], "monitors")
    needed = [one for one in watched if one.monitor in NEEDED.get(one.service, ())]
    scored = control.get(list[TrackedView], "bias", "tracked")
    return (
        len(needed) == sum(map(len, NEEDED.values()))
        and not any(word in one.standing for one in needed for word in ("learning", "not learnt"))
        and [one.state for one in scored] == ["watching"]
    )


def is_blind(alerts: Alerts) -> bool:
    """Whether it is told that drift cannot be seen."""
    alerts.look()
    return bool(alerts.of(BY_MODEL, "monitor_blind"))


def is_seen_again(alerts: Alerts) -> bool:
    """Whether no monitor is blind any more."""
    alerts.look()
    return all(one.away_since for one in alerts.of(BY_MODEL, "monitor_blind"))


def check_labels(alerts: Alerts) -> None:
    """Each alert is about the one whom it befell, and nobody else."""
    alerts.look()
    assert {(one.labels["key"], one.labels["outcome"]) for one in alerts.of(KEYED, "slow_key")} == {
        (SLOW_KEY, "latency")
    }
    segments = {one.labels.get("segment") for one in alerts.of(SEGMENTED, "drift")}
    assert CALM not in segments, alerts.told()
    # The vectors of answers, which are few, are all known by now.
    (blind,) = alerts.of(BY_MODEL, "monitor_blind")
    assert (blind.labels["watched"], blind.labels["needs"]) == ("drift", VECTORS)
    assert VECTORS in blind.summary
    (flaps,) = alerts.of(VECTORS, "replica_flapping")
    for alert in (blind, flaps):
        nearest = alert.causes[0].change
        of = dict(nearest.labels)
        assert (nearest.kind, of["service"]) == ("replica", VECTORS), alert.causes
        assert of["replica"] == flaps.labels["replica"]
    watched = alerts.installation.control.get(list[MonitorView], "monitors")
    by = {one.vectors.partition("-")[0] for one in watched if one.service == BY_MODEL}
    assert by == {"model", ""}, watched


def check_cases(installation: Installation, done: ActionView) -> SuiteVersion:
    """What is asked now are cases, which the release fails; so says the audit."""
    control = installation.control
    (listed,) = control.get(list[SuiteVersion], "suites", service=SUITED)
    version = control.get(SuiteVersion, "suites", listed.id)
    assert version.alert == done.alert
    # There may be no room for all reasons.
    assert version.words.startswith(done.outcome)
    for one in version.verdicts:
        assert f"{one.gate} {one.outcome.value}" in done.outcome
    assert any(dish in case.text for dish in DISHES for case in version.cases), version
    said = {one.gate: one.outcome for one in version.verdicts}
    assert said.keys() == {f"{GATE} on new cases", f"{GATE} with new cases", "judge on new cases"}
    assert {said[name] for name in said if GATE in name} == {GateOutcome.FAIL}
    few = GateOutcome.PASS if len(version.cases) >= 10 else GateOutcome.INCONCLUSIVE
    assert said["judge on new cases"] is few
    return version


def is_in_timeline(installation: Installation, version: SuiteVersion) -> bool:
    """Whether the incident of its alert tells of the action and of the verdict."""
    control = installation.control
    alert = control.get(AlertView, "alerts", version.alert)
    assert alert.incident == version.incident
    incident = control.get(IncidentView, "incidents", str(version.incident))
    kinds = {event.kind for event in incident.timeline if version.id in event.what}
    return {"action", "gate"} <= kinds


def test_made_items_are_answered_by_what_their_context_tells(tmp_path: Path) -> None:
    """By the first release all rightly, by the other one always with the bias."""
    path, recorded = tmp_path / "bbq.jsonl", Recorded()
    write_bbq(path)
    cases = bbq_suite({path.name: path.read_bytes()}).cases
    assert len(cases) == ITEMS
    model = FAULTS[SCORED].model

    def chosen(words: str) -> list[int]:
        said = [
            recorded.chosen(model.told(words, str(case.input)), str(case.input), random.Random(1))
            for case in cases
        ]
        return [LETTERS.index(answer.text) for answer in said]

    assert chosen("") == [expected_bbq(case).correct for case in cases]
    assert chosen(EDITED) == [expected_bbq(case).biased for case in cases]
