"""What people ask now becomes cases, which the release that serves is asked; people can refuse."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec
import pytest

pytest.importorskip("numpy")

from control.acting_world import acting, carry_out, entry, serves, told
from control.answering_replica import AnsweringReplica
from control.judged_world import grade, judge_at
from control.simulated_world import World, questions
from fairlead.control.acting import fresh_cases
from fairlead.control.acting.carrying_out import VERDICT_S
from fairlead.control.acting.fresh_cases import NONE_LEFT
from fairlead.control.acting.suite_versions import UNGRADED, SuiteVersion, chosen
from fairlead.control.api import create_app
from fairlead.control.shipping.spec import GateSpec
from fairlead.domain.capture import Capture
from fairlead.domain.errors import InvalidInput, NotFound
from fairlead.domain.verdicts import GateOutcome
from fairlead.evaluation.cases import Suite
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.judge_model import Budget
from fairlead.evaluation.scorers import Regex
from fairlead.monitoring.actions import ActionEntry, ActionKind, ActionPolicy
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.monitors.made_texts import changed_texts, usual_texts
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.store.evaluation import CaseResultRow
from fairlead.store.rows import RequestRow, SampleFilter, SampleRow, SpoolCursor

Start = Callable[..., AnsweringReplica]
NEW = ("guitar", "concert", "singer", "album", "drums", "melody", "festival")
POLICY = ActionPolicy(ActionKind.ADD_CASES, ("drift",), (Severity.TICKET,), cases_max=8)
DECLARED = Declared(
    actions=(POLICY,),
    monitors=MonitorSettings(off=("answer_drift",)),
    texts=TextSettings(drift_texts=1_000, texts_per_false_alarm=1e4),
)


class Found:
    """A watching that has found these prompts."""

    def __init__(self, cases: Sequence[SuggestedCase]) -> None:
        self.cases = list(cases)
        self.desk = Desk()

    async def suggested_cases(self, service: str) -> list[SuggestedCase]:
        assert service == "bank"
        return self.cases


def prompts(count: int, topic: str = "cable, bill") -> list[SuggestedCase]:
    return [
        SuggestedCase(f"{topic[:3]}{number}", f"{topic} {number}", ("drift", "new"), topic)
        for number in range(count)
    ]


def finds(world: World, cases: Sequence[SuggestedCase]) -> None:
    acting(world).fresh_cases.watched = Found(cases)  # type: ignore[assignment]


def decided(world: World, at: float = 1_000.0) -> ActionEntry:
    return entry(ActionKind.ADD_CASES, world.digests["a"], at, policy=POLICY.id)


async def serving(world: World, replica: Start, answer: str = "right", **changes: Any) -> None:
    """Release a answers everything so, and a judge model grades it."""
    made = replica(lambda _text: answer)
    world.target.base_urls = lambda _engine: made.url
    given = {"judge": judge_at(replica(grade)), "capture": Capture(1.0), "monitoring": DECLARED}
    await serves(world, "a", **{**given, **changes})


async def asked(world: World, at: float = 1_000.0) -> SuiteVersion:
    """The version that the action makes, with its verdict."""
    one = decided(world, at)
    said = await carry_out(world, one)
    cases = acting(world).fresh_cases
    (made, *_) = cases.all("bank")
    assert said == ("" if cases.is_asked(made.id) else made.words)
    await world.until_in_real_time(lambda: not cases.is_asked(made.id), seconds=0.1)
    assert await carry_out(world, one) == cases.version(made.id).words
    return cases.version(made.id)


def record(world: World, texts: Sequence[str], first: int) -> None:
    """Requests to release a, a tenth of a second apart, with what they asked."""
    rows, samples = [], []
    for place, text in enumerate(texts):
        name, began = f"r{first + place:06d}", world.now + 0.1 * place
        values = ("", 0, "chat", False, 200, "", began, 5.0, -1.0, 50.0, 10, 5, 1)
        unit = f"u{first + place}"
        rows.append(
            RequestRow(
                name, "bank", world.digests["a"], "champion", "bank-1", "app", unit, 0.0, *values
            )
        )
        turns = json.dumps([["system", "be kind"], ["user", text]])
        samples.append(SampleRow(name, "bank", "app", unit, began, 1e12, turns, "fine", False))
    world.now += 0.1 * len(texts) + 5.0
    cursor = SpoolCursor(offset=first + len(rows), complete_until=world.now)
    world.store.ingest("boot", rows, [], cursor, samples=samples)


async def test_drift_becomes_cases_that_the_champion_is_asked_and_the_incident_tells_of_it(
    world: World, replica: Start
) -> None:
    """The whole of it, with the real monitors, store, desk, replicas and judge."""
    await serving(world, replica)
    world.store.open_spool("boot")
    record(world, [text.prompt for text in usual_texts(1_320, "prompt")], 0)
    record(world, [text.prompt for text in changed_texts(320, "prompt", "new_content")], 1_320)
    watching, cases = world.plane.watching, acting(world).fresh_cases
    for _ in range(4):
        await watching.look()
    (version,) = cases.all()
    assert version.ended_at is None
    (incident,) = [one for one in watching.desk.incidents if "bank" in one.services]
    assert (version.incident, version.release) == (incident.number, world.digests["a"])
    assert version.alert in {member.fingerprint for member in incident.members}
    assert version.policy == "add_cases:drift"
    assert 3 <= len(version.cases) <= 8
    assert all(int(case.request[1:]) >= 1_000 for case in version.cases)
    assert any(word in case.text for case in version.cases for word in NEW)
    await world.until_in_real_time(lambda: not cases.is_asked(version.id), seconds=0.1)
    await watching.look()
    await watching.look()
    (done,) = [one for one in watching.desk.audit if one.kind is ActionKind.ADD_CASES]
    assert f"suite version {version.id}" in done.outcome
    assert "judge on new cases inconclusive" in done.outcome
    (incident,) = [one for one in watching.desk.incidents if "bank" in one.services]
    story = {event.kind: event.what for event in incident.timeline if version.id in event.what}
    assert "judge on new cases inconclusive" in story["gate"]
    assert f"fairlead suite show {version.id}" in story["action"]
    assert len(told(world, "suite_verdict")) == len(told(world, "action")) == 1
    assert told(world, "samples_read")
    spent = world.store.judge_spend(service="bank")
    assert spent.asked == len(version.cases)
    kept = msgspec.json.encode([done, incident, world.store.events("bank", limit=1_000)]).decode()
    assert not any(word in kept for word in NEW), "what people wrote is in the cases alone"


async def test_a_release_that_fails_new_cases_is_a_condition_until_they_are_refused(
    world: World, replica: Start
) -> None:
    await serving(world, replica, "wrong")
    finds(world, prompts(5))
    made = await asked(world)
    (verdict,) = made.verdicts
    assert (verdict.gate, verdict.outcome) == ("judge on new cases", GateOutcome.FAIL)
    cases = acting(world).fresh_cases
    (condition,) = cases.conditions("gate")
    assert dict(condition.labels)["gate"] == "judge on new cases"
    assert "0 of 5 right" in condition.summary
    await world.restart()
    cases = acting(world).fresh_cases
    assert cases.conditions("gate") == [condition]
    left = await world.plane.refuse_cases(made.id, (), "ana", "these are spam")
    assert (left.outcome, left.asked, cases.conditions("gate")) == ("refused", (), [])
    assert "5 of 5 cases, by ana: these are spam" in told(world, "suite_refused")[0]
    stored = b"".join(world.store.documents("suite_version").values())
    assert b"cable" not in stored
    finds(world, [*prompts(5), *prompts(1, "loan")])
    again = await asked(world, 5_000.0)
    assert [case.text for case in again.cases] == ["loan 0"], "what was refused stays out"
    finds(world, prompts(5))
    assert "refused before" in await carry_out(world, decided(world, 9_000.0))


async def test_without_the_cases_that_a_person_refuses_it_is_decided_anew(
    world: World, replica: Start
) -> None:
    """Nothing is asked again for that."""
    await serving(world, replica)
    made = replica(lambda text: "right" if text.endswith("0") else "wrong")
    for one in world.replicas_of("a"):
        world.target._replicas[one.id] = msgspec.structs.replace(one, base_url=made.url)
    finds(world, [*prompts(9), *prompts(9, "loan")])
    first = await asked(world)
    assert first.verdicts[0].outcome is GateOutcome.FAIL
    wrong = [case.id for case in first.cases if not case.text.endswith("0")]
    cases = acting(world).fresh_cases
    with pytest.raises(NotFound):
        await world.plane.refuse_cases(first.id, ("none",), "ana", "no")
    with pytest.raises(InvalidInput):
        await world.plane.refuse_cases(first.id, wrong, "ana", " ")
    await world.plane.refuse_cases(first.id, wrong, "ana", "not ours")
    await world.until_in_real_time(lambda: not cases.is_asked(first.id), seconds=0.1)
    (verdict,) = cases.version(first.id).verdicts
    assert verdict.outcome is GateOutcome.INCONCLUSIVE
    assert "2 of 2 right" in verdict.reason
    assert "to pass takes 10 cases" in verdict.reason
    assert sum(made.asked.values()) == 8
    kept = world.store.case_results(first.asked_as, first.kept_as[0], wrong)
    assert [row.answer for row in kept] == [""] * 6


async def polite(world: World, replica: Start, new: int) -> tuple[SuiteVersion, int]:
    """Release a passed twelve cases of a gate that needs no reference, and fails these new ones.

    The version, and how many cases were asked.
    """
    known = world.registry.put_blob(Suite(tuple(questions(12))).to_bytes(), "application/json")
    gate = GateSpec(GateRule("polite", minimum=0.7, margin=0.1), Regex("^right"), known)
    made = replica(lambda _text: "right")
    await serving(world, replica, gates=(gate, world.gate(questions(3), minimum=0.0)), judge=None)
    for one in world.replicas_of("a"):
        world.target._replicas[one.id] = msgspec.structs.replace(one, base_url=made.url)
    made.answer = lambda _text: "wrong"
    finds(world, prompts(new))
    return await asked(world), sum(made.asked.values())


async def test_a_gate_that_needs_no_reference_is_decided_with_the_new_cases_and_on_them(
    world: World, replica: Start
) -> None:
    version, count = await polite(world, replica, 4)
    told = {verdict.gate: (verdict.outcome, verdict.reason) for verdict in version.verdicts}
    assert told.keys() == {"polite on new cases", "polite with new cases"}
    assert told["polite on new cases"][0] is GateOutcome.FAIL
    assert "0 of 4 right" in told["polite on new cases"][1]
    assert told["polite with new cases"][0] is GateOutcome.PASS
    assert "12 of 16 right" in told["polite with new cases"][1]
    assert count == 4, "what it was accepted with is taken over"
    fresh = tuple(case.case for case in version.cases)
    whole = Suite((*questions(12), *fresh))
    assert version.suites == {"": Suite(fresh).digest, "polite": whole.digest}
    assert version.words.startswith(
        f"suite version {version.id}, 4 new cases (`fairlead suite show {version.id}`): "
        "polite on new cases fail, polite with new cases pass; polite on new cases: 0 of 4 right"
    )


async def test_a_suite_fails_with_new_cases_no_more_by_chance_than_on_them_alone(
    world: World, replica: Start
) -> None:
    version, _ = await polite(world, replica, 6)
    alone, whole = version.verdicts
    assert (alone.outcome, whole.outcome) == (GateOutcome.FAIL, GateOutcome.INCONCLUSIVE)
    assert "12 of 18 right" in whole.reason
    assert "below the minimum 70%" in whole.reason
    assert "so few cases can say so by chance" in whole.reason
    (condition,) = acting(world).fresh_cases.conditions("gate")
    assert dict(condition.labels)["gate"] == "polite on new cases"


async def test_a_control_that_dies_goes_on_and_asks_nothing_twice(
    world: World, replica: Start
) -> None:
    await serving(world, replica)
    slow = replica(lambda _text: "right", 3)
    for one in world.replicas_of("a"):
        world.target._replicas[one.id] = msgspec.structs.replace(one, base_url=slow.url)
    finds(world, prompts(8))
    assert await carry_out(world, decided(world)) == ""
    await world.until_in_real_time(lambda: slow.is_stuck, seconds=0.1)
    await world.restart()
    slow.resume()
    (version,) = acting(world).fresh_cases.all()
    await world.until_in_real_time(
        lambda: not acting(world).fresh_cases.is_asked(version.id), seconds=0.1
    )
    assert "8 of 8 right" in acting(world).fresh_cases.version(version.id).verdicts[0].reason
    assert sum(slow.asked.values()) <= 8 + 2, "only what was under way is asked again"


async def test_a_verdict_that_takes_long_is_not_waited_for_in_the_audit(
    world: World, replica: Start
) -> None:
    """What is not carried out within ten minutes would be given up."""
    await serving(world, replica)
    finds(world, prompts(2))
    one = decided(world, world.now - VERDICT_S)
    assert "the verdict will be an event" in await carry_out(world, one)
    (version,) = acting(world).fresh_cases.all()
    await world.until_in_real_time(
        lambda: not acting(world).fresh_cases.is_asked(version.id), seconds=0.1
    )
    assert "2 of 2 right" in told(world, "suite_verdict")[0]
    assert len(told(world)) == 1


async def test_without_anyone_to_grade_the_cases_are_there_and_it_says_what_is_missing(
    world: World, replica: Start
) -> None:
    await serving(world, replica, gates=(world.gate(questions(3), minimum=0.0),), judge=None)
    finds(world, prompts(3))
    version = await asked(world)
    assert (version.said, version.verdicts) == (UNGRADED, ())
    assert "declare `judge`" in told(world)[0]
    finds(world, ())
    assert "drift shows no prompts" in await carry_out(world, decided(world, 5_000.0))


async def test_a_judge_s_budget_of_the_day_holds_for_cases_too(
    world: World, replica: Start
) -> None:
    judge = judge_at(replica(grade), budget=Budget(per_day=2))
    await serving(world, replica, judge=judge)
    finds(world, prompts(5))
    version = await asked(world)
    assert version.verdicts[0].outcome is GateOutcome.INCONCLUSIVE
    assert "budget used up" in version.verdicts[0].reason
    assert world.store.judge_spend(service="bank").asked == 2


async def test_a_deleted_sample_takes_its_case_along_and_the_verdict_stays(
    world: World, replica: Start
) -> None:
    await serving(world, replica)
    found = prompts(3)
    samples = [
        SampleRow(one.request, "bank", "k", "u", world.now, 1e12, "[]", "x", False) for one in found
    ]
    world.store.ingest("another", [], [], SpoolCursor(), samples=samples)
    finds(world, found)
    version = await asked(world)
    cases = acting(world).fresh_cases
    await cases.forget_deleted()
    assert len(cases.version(version.id).asked) == 3
    world.store.delete_samples(SampleFilter(request=found[0].request))
    await cases.forget_deleted()
    left = cases.version(version.id)
    assert [case.text for case in left.cases] == ["", *(one.text for one in found[1:])]
    assert left.verdicts == version.verdicts
    rows = world.store.case_results(version.asked_as, version.kept_as[0], [left.cases[0].id])
    assert [row.answer for row in rows] == [""]


async def test_a_verdict_goes_with_refused_cases_also_where_nothing_is_left_to_ask(
    world: World, replica: Start
) -> None:
    await serving(world, replica, "wrong")
    finds(world, prompts(5))
    version = await asked(world)
    cases = acting(world).fresh_cases
    await cases.forget_deleted()
    assert (len(cases.conditions("gate")), cases.version(version.id).asked) == (1, ())
    await world.plane.refuse_cases(version.id, (version.cases[0].id,), "ana", "spam")
    left = cases.version(version.id)
    assert (left.verdicts, left.outcome, cases.conditions("gate")) == ((), NONE_LEFT, [])
    assert not cases.is_asked(version.id)


async def test_what_was_refused_stays_out_when_its_version_is_gone(
    world: World, replica: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_cases, "VERSIONS_MAX", 1)
    await serving(world, replica)
    finds(world, prompts(2))
    first = await asked(world)
    await world.plane.refuse_cases(first.id, (), "ana", "spam")
    finds(world, prompts(2, "loan"))
    second = await asked(world, 5_000.0)
    assert acting(world).fresh_cases.all() == [second]
    await world.restart()
    finds(world, [*prompts(2), *prompts(2, "tax")])
    third = await asked(world, 9_000.0)
    assert [case.text for case in third.cases] == ["tax 0", "tax 1"]


async def test_no_answer_that_is_just_being_written_outlives_its_case(
    world: World, replica: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serving(world, replica)
    finds(world, prompts(1))
    put, begun, written = world.store.put_case_results, threading.Event(), threading.Event()

    def slowly(rows: Sequence[CaseResultRow]) -> None:
        is_first = not begun.is_set()
        begun.set()
        if is_first:
            time.sleep(0.3)
        put(rows)
        if is_first:
            written.set()

    monkeypatch.setattr(world.store, "put_case_results", slowly)
    await carry_out(world, decided(world))
    await world.until_in_real_time(begun.is_set, seconds=0.1)
    (version,) = acting(world).fresh_cases.all()
    await world.plane.refuse_cases(version.id, (), "ana", "private")
    await asyncio.to_thread(written.wait, 5.0)
    rows = world.store.case_results(
        version.asked_as, version.kept_as[0], [case.id for case in version.cases]
    )
    assert [row.answer for row in rows] == [""]


async def test_another_champion_ends_it(world: World, replica: Start) -> None:
    await serving(world, replica)
    stuck = replica(lambda _text: "right", 0)
    for one in world.replicas_of("a"):
        world.target._replicas[one.id] = msgspec.structs.replace(one, base_url=stuck.url)
    finds(world, prompts(3))
    assert await carry_out(world, decided(world)) == ""
    await world.turn()
    await serves(world, "b")
    (version,) = acting(world).fresh_cases.all()
    assert version.outcome == "the release does not serve any more"
    assert "does not serve" in await carry_out(world, decided(world, 9_000.0))


async def test_people_see_and_refuse_cases_by_the_api(world: World, replica: Start) -> None:
    await serving(world, replica)
    finds(world, prompts(2))
    version = await asked(world)
    transport = httpx.ASGITransport(create_app(world.plane, "t"))
    headers = {"authorization": "Bearer t"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c/api/v1", headers=headers
    ) as client:
        (listed,) = (await client.get("/suites", params={"service": "bank"})).json()
        assert [case["text"] + case["topic"] for case in listed["cases"]] == ["", ""]
        shown = (await client.get(f"/suites/{version.id}")).json()
        assert [case["text"] for case in shown["cases"]] == ["cable, bill 0", "cable, bill 1"]
        assert "cases of" in told(world, "samples_read")[-1]
        body = {"by": "ana", "why": "no", "cases": [version.cases[0].id]}
        refused = (await client.post(f"/suites/{version.id}/refuse", json=body)).json()
        assert [case["is_refused"] for case in refused["cases"]] == [True, False]
        assert (await client.get("/suites/none")).status_code == 404


def test_of_each_topic_there_are_some_before_there_are_many_of_one() -> None:
    cut = SuggestedCase("x", "only the beginning", ("drift", "new", "cut"), "loan")
    found = [cut, *prompts(5), *prompts(2, "loan"), *prompts(2, "tax")]
    texts = [case.text for case in chosen(found, (), 5)]
    assert texts == ["cable, bill 0", "loan 0", "tax 0", "cable, bill 1", "loan 1"]
    assert len(chosen([*found, *found], (), 100)) == 9, "each once, and none that is cut"


async def test_who_refused_cases_and_why_is_bounded(
    world: World, replica: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_cases, "REFUSALS_MAX", 2)
    await serving(world, replica, gates=(world.gate(questions(3), minimum=0.0),), judge=None)
    finds(world, prompts(3))
    version = await asked(world)
    for number in range(4):
        await world.plane.refuse_cases(version.id, (version.cases[0].id,), "ana", f"no {number}")
    left = acting(world).fresh_cases.version(version.id)
    assert [note.rpartition(": ")[2] for note in left.refused] == ["no 2", "no 3"]
    assert len(told(world, "suite_refused")) == 4
