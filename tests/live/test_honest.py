"""Honest traffic comes as it is said to, and its report fails by one alert."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairlead.control.watching.watch_views import AlertView, MonitorView
from fairlead.domain.text_signals import language
from support import honest_traffic
from support.honest_traffic import Asked, Conversation, Shape, arrivals, bursts, steady, wave
from support.recorded_engine import REFUSAL, Model
from support.waiting import until

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.honest_engine import Speaker, Wanted, honest_engine
from benchmarks.honest_report import Honest, markdown
from benchmarks.honest_services import GUARDED, services
from benchmarks.honest_texts import EXTRAS, MAINS, MATTERS, Mix, matter, questions


def counted(shape: Shape, seconds: float, every_s: float) -> list[int]:
    """Arrivals in each stretch of time."""
    after, at, found = arrivals(shape, random.Random(1)), 0.0, Counter[int]()
    while (at := after(at)) < seconds:
        found[int(at // every_s)] += 1
    return [found[place] for place in range(int(seconds / every_s))]


def test_a_steady_stream_has_its_rate() -> None:
    assert sum(counted(steady(5.0), 2_000.0, 100.0)) == pytest.approx(10_000, rel=0.03)


def test_a_wave_rises_and_falls_with_its_period() -> None:
    quarters = counted(wave(1.0, 9.0, 4_000.0), 4_000.0, 1_000.0)
    assert quarters[0] == pytest.approx(quarters[1], rel=0.1)
    assert min(quarters[:2]) > 2 * max(quarters[2:])


def test_bursts_come_and_go_and_the_rate_of_a_time_is_the_same_again() -> None:
    shape = bursts(1.0, 20.0, 60.0, 15.0, seed=3)
    rates = [shape.rate(float(at)) for at in range(2_000)]
    assert set(rates) == {1.0, 20.0}
    assert 0.1 < rates.count(20.0) / len(rates) < 0.35
    assert shape.rate(1_990.0) == rates[1_990]
    assert max(counted(bursts(1.0, 20.0, 60.0, 15.0, seed=3), 2_000.0, 5.0)) > 50


def test_each_matter_is_told_from_all_others_in_an_answer() -> None:
    said = [main.format(about) for about in MATTERS for main in MAINS]
    assert all(sum(about in each for about in MATTERS) == 1 for each in said)
    assert len(set(MATTERS)) == len(MATTERS)


def test_the_mix_of_a_service_stays_what_it_is() -> None:
    mix, dice = Mix(questions(), 1), random.Random(2)
    halves = [Counter(mix.begins(dice).intent for _ in range(20_000)) for _ in range(2)]
    known = {one.intent for one in questions()}
    assert halves[0].keys() == halves[1].keys() == known
    assert all(abs(halves[0][name] - halves[1][name]) < 200 for name in known)
    ends = [mix.goes_on(dice, Asked("", next(iter(known)))) for _ in range(10_000)]
    assert sum(one is None for one in ends) == pytest.approx(6_000, rel=0.05)


def test_some_questions_bring_what_guardrails_see_at_a_steady_rate() -> None:
    mix, dice = Mix(questions(), 1), random.Random(2)
    asked = [mix.begins(dice).text for _ in range(40_000)]
    for share, extra in EXTRAS:
        found = sum(text.endswith(extra) for text in asked)
        assert found == pytest.approx(share * len(asked), rel=0.25)


def test_the_model_answers_in_english_sentences_that_mostly_are_right() -> None:
    speaker, dice = Speaker(random.Random(1)), random.Random(3)
    speaker.models["bank"] = Model()
    mix = Mix(questions(), 1)
    asked = [mix.begins(dice) for _ in range(2_000)]
    said = [speaker.answer(Wanted("bank", "Be kind.", one.text)).text for one in asked]
    right = sum(matter(one.intent) in text for one, text in zip(asked, said, strict=True))
    assert 0.6 < right / len(asked) < 0.98
    assert sum(language(text) == "en" for text in said) > 0.9 * len(said)
    lengths = [len(text.split()) for text in said]
    assert max(lengths) > 2 * min(lengths)
    again = [speaker.answer(Wanted("bank", "Be kind.", one.text)).text for one in asked]
    alike = sum(text == other for text, other in zip(said, again, strict=True))
    assert 0.85 < alike / len(asked) < 1.0


def test_a_worse_model_is_worse_in_its_own_way() -> None:
    speaker = Speaker(random.Random(1))
    speaker.models |= {
        "usual": Model(), "dear": Model(longer=2.5), "refusing": Model(refusing=1.0),
        "failing": Model(failing=1.0), "broken": Model(broken=1.0),
    }  # fmt: skip
    said = {
        name: speaker.answer(Wanted(name, "", "Where is my card?", is_json=True))
        for name in speaker.models
    }
    assert said["dear"].completion_tokens > 2 * said["usual"].completion_tokens
    assert said["refusing"].text == REFUSAL
    assert said["failing"].text == ""
    assert not said["broken"].text.startswith("{")


async def test_users_go_on_with_their_conversations_and_get_whole_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(honest_traffic, "PAUSE_S", 0.05)
    began: list[Conversation] = []
    (served,) = [one for one in services(60.0, 10.0) if one.name == "steady"]
    async with honest_engine({"steady": Model()}) as engine:
        users = served.visitors(("127.0.0.1", engine.port), ["k1", "k2"], 1)
        users.told = 0.0  # Nobody is there who would take it.
        monkeypatch.setattr(users, "_go_on", noting(users, began))
        stop = asyncio.Event()
        coming = asyncio.create_task(users.run(stop))
        await until(lambda: users.statuses[200] >= 200, "answers")
        stop.set()
        await coming
    asked = sum(users.statuses.values())
    assert users.statuses.keys() == {200}
    assert users.broken == users.stopped == users.held_back == 0
    assert 0.45 * asked < users.conversations < 0.8 * asked
    assert max(len(talk.said) for talk in began) >= 2


async def test_users_who_do_not_go_on_ask_each_question_once() -> None:
    asked = questions()[0]
    async with honest_engine({"bank": Model()}) as engine:
        place = ("127.0.0.1", engine.port)
        users = honest_traffic.Visitors(place, "bank", ["k1"], steady(50.0), lambda _: asked, 1)
        stop = asyncio.Event()
        coming = asyncio.create_task(users.run(stop))
        await until(lambda: users.statuses[200] >= 20, "answers")
        stop.set()
        await coming
    assert users.statuses == {200: users.conversations}


def noting(users: honest_traffic.Visitors, began: list[Conversation]) -> object:
    """Go on as usual, and keep the conversation."""
    usual = users._go_on

    def go_on(talk: Conversation, *more: object) -> None:
        began.append(talk)
        usual(talk, *more)  # type: ignore[arg-type]

    return go_on


def test_one_service_has_guardrails_and_two_have_two_replicas_each() -> None:
    told = {one.name: one.told for one in services(60.0, 1.0)}
    assert [name for name, words in told.items() if "guardrails" in words] == [GUARDED]
    assert sum("two replicas" in words for words in told.values()) == 2
    assert all("% streamed" in words for words in told.values())


SEEN = MonitorView("bank", "sha256:a", "errors", "watching 900 requests", 900, 0.0, 0.0, "", 0)


def report(**changes: object) -> Honest:
    made = Honest(600.0, {"bank": "waves"}, {"bank": 900}, {"bank": 0}, monitors=[SEEN])
    vars(made).update(changes)
    return made


def alert(summary: str) -> AlertView:
    return AlertView(
        "f1", "bank", "errors", {}, "ticket", "firing", summary, [], [], [], [], 0.0, 0.0, 0.0,
        0.0, None, 300.0, 0, None, None, "",
    )  # fmt: skip


def test_without_an_alert_the_report_says_what_was_looked_at() -> None:
    page = markdown(report(), "make soak-honest", 0.1)
    assert report().problems() == []
    assert "**Passed.**" in page
    assert "| bank | errors | 900 | watching 900 requests |" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alerts": {"f1": (90.0, alert("30% failed"))}}, "an alert: 30% failed"),
        ({"failed": {"bank": 2}}, "bank: 2 requests without a whole answer"),
        (
            {"failed": {"bank": 1}, "stopped": {"bank": 5}},
            "bank: 1 requests without a whole answer",
        ),
        ({"asked": {"bank": 0}}, "bank: nobody has asked it"),
        ({"monitors": ()}, "no monitor has looked"),
        ({"monitors": [MonitorView("bank", "a", "drift", "", 9, 0.0, 0.0, "broken", 0)]}, "broken"),
    ],
)
def test_whatever_is_wrong_fails_the_check(changes: dict[str, object], said: str) -> None:
    (problem,) = report(**changes).problems()
    assert said in problem
    page = markdown(report(**changes), "make soak-honest", 0.1)
    assert "**Not passed:**" in page
    if "alerts" in changes:
        assert "| 1.5 min | bank | errors | ticket | 30% failed |  |" in page
