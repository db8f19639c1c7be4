"""Monitors say since when that was learnt which they hold things against: kept, inherited, anew."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

pytest.importorskip("numpy")

from fairlead.embedding.hashed import HashedNgrams
from fairlead.monitoring.baseline import Compared
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.answers import FormatMonitor, LengthMonitor, RefusalsMonitor
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.errors import ErrorsMonitor
from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.guardrails import GuardrailsMonitor
from fairlead.monitoring.monitors.interface import (
    Monitor,
    Seen,
    SeenFeedback,
    SeenText,
)
from fairlead.monitoring.monitors.keys import CHOOSE_EVERY, SlowKeyMonitor
from fairlead.monitoring.monitors.made_texts import (
    changed_texts,
    made_text,
    usual_texts,
)
from fairlead.monitoring.monitors.quality import QualityMonitor
from fairlead.monitoring.monitors.segments import SegmentMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.monitors.texts import KINDS, TextRates
from fairlead.monitoring.monitors.times import LatencyMonitor, ThroughputMonitor
from fairlead.stats.monitors.paces import SLOPES_OF

OF = ("bank", "sha256:a")
BEGAN = 1_000_000.0
SETTINGS = MonitorSettings(learn=200)
TEXTS = TextSettings(drift_texts=1_000, drift_texts_later=1_000, rate_texts=200)
Feed = Callable[[Monitor, float, bool, random.Random], None]


class Learner(NamedTuple):
    """A kind of monitor.

    Attributes:
        feed: Gives it what comes at a time: something usual, or something faulty.
        usual, faulty: How much of it.
    """

    make: Callable[[], Monitor]
    feed: Feed
    compared: Compared
    usual: int = 600
    faulty: int = 600


def request(monitor: Monitor, at: float, *, failed: bool = False, **of: Any) -> None:
    monitor.see(Seen(Made(id=f"r{at}", started_at=at, **of), 1.0, 1.0, failed))


def errors(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    failed = faulty and dice.random() < 0.5
    request(monitor, at, failed=failed, status=500 if failed else 200)


def broken(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    request(monitor, at, malformed=int(faulty and dice.random() < 0.5))


def refused(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    request(monitor, at, refused=int(faulty and dice.random() < 0.5))


def denied(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    request(monitor, at, guardrail_hits=int(dice.random() < (0.5 if faulty else 0.03)))


def slow(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    pace = math.exp(dice.gauss(0.0, 0.2)) * (4.0 if faulty else 1.0)
    request(monitor, at, ttft_ms=100.0 * pace, itl_ms=20.0 * pace)


def slow_key(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    key = "abc"[int(at) % 3]
    pace = math.exp(dice.gauss(0.0, 0.2)) * (4.0 if faulty and key == "b" else 1.0)
    request(monitor, at, key=key, ttft_ms=100.0 * pace, itl_ms=20.0 * pace)


def dear(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    tokens = int(100 * math.exp(dice.gauss(0.0, 0.3)) * (4.0 if faulty else 1.0))
    request(monitor, at, key="k", completion_tokens=tokens, cost_usd=1e-5 * tokens)


def longer(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    """Of a price by the request."""
    tokens = int(100 * math.exp(dice.gauss(0.0, 0.3)) * (4.0 if faulty else 1.0))
    request(monitor, at, key="k", completion_tokens=tokens, cost_usd=1e-3)


def disliked(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
    value = float(dice.random() > (0.9 if faulty else 0.1))
    monitor.see_feedback(SeenFeedback(Made(started_at=at), "thumbs", value, at))


def texts_of(name: str, text: str = "") -> Feed:
    (kind,) = [one for one in KINDS if one.name == name]

    def feed(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
        said = kind.bad if faulty and dice.random() < 0.6 else kind.good
        prompt = said.prompt if text != "answer" else kind.good.prompt
        answer = said.answer if text != "prompt" else kind.good.answer
        monitor.see_text(made_text(prompt, answer, f"r{at}", at))

    return feed


def drifting(text: str) -> Feed:
    streams: dict[tuple[int, bool], Iterator[SeenText]] = {}

    def feed(monitor: Monitor, at: float, faulty: bool, dice: random.Random) -> None:
        stream = streams.get((id(monitor), faulty))
        if stream is None:
            many = 10**6
            stream = changed_texts(many, text, "new_content") if faulty else usual_texts(many, text)
            streams[id(monitor), faulty] = stream
        said = next(stream)
        monitor.see_text(made_text(said.prompt, said.answer, f"r{at}", at))

    return feed


def rates(name: str) -> Callable[[], Monitor]:
    (kind,) = [one for one in KINDS if one.name == name]
    return lambda: TextRates(kind, *OF, TEXTS)


def drift(name: str, text: str) -> Callable[[], Monitor]:
    return lambda: TextDrift(About(name, *OF, text), TEXTS, HashedNgrams(64))


ANSWERED, ASKED, BOTH = Compared.ANSWERED, Compared.ASKED, Compared.BOTH
LEARNERS = {
    "errors": Learner(lambda: ErrorsMonitor(*OF, SETTINGS), errors, ANSWERED),
    "format": Learner(lambda: FormatMonitor(*OF, SETTINGS), broken, ANSWERED),
    "refusals": Learner(lambda: RefusalsMonitor(*OF, SETTINGS), refused, ANSWERED),
    "length": Learner(lambda: LengthMonitor(*OF, SETTINGS), dear, BOTH),
    "guardrails": Learner(lambda: GuardrailsMonitor(*OF, SETTINGS), denied, BOTH),
    "quality": Learner(lambda: QualityMonitor(*OF, SETTINGS), disliked, ANSWERED),
    "latency": Learner(lambda: LatencyMonitor(*OF, SETTINGS), slow, ANSWERED),
    "throughput": Learner(lambda: ThroughputMonitor(*OF, SETTINGS), slow, ANSWERED),
    "slow_key": Learner(lambda: SlowKeyMonitor(*OF, SETTINGS), slow_key, ANSWERED, 2_600, 1_500),
    "cost": Learner(lambda: CostMonitor(*OF), dear, BOTH, 2_200, 1_000),
    "repetition": Learner(rates("repetition"), texts_of("repetition"), ANSWERED),
    "language of prompts": Learner(rates("language"), texts_of("language", "prompt"), ASKED),
    "language of answers": Learner(rates("language"), texts_of("language", "answer"), ANSWERED),
    "injection": Learner(rates("injection"), texts_of("injection"), ASKED),
    "drift": Learner(drift("drift", "prompt"), drifting("prompt"), ASKED, 1_300),
    "answer_drift": Learner(drift("answer_drift", "answer"), drifting("answer"), ANSWERED, 1_300),
}


class Fed:
    """A monitor, and what it was given."""

    def __init__(self, kind: Learner) -> None:
        self.kind, self.monitor, self.at = kind, kind.make(), BEGAN
        self._dice = random.Random(7)

    def give(self, count: int, *, faulty: bool) -> None:
        for _ in range(count):
            self.kind.feed(self.monitor, self.at, faulty, self._dice)
            self.at += 1.0

    def found(self) -> list[Condition]:
        """What it says once what comes is faulty."""
        self.give(self.kind.faulty, faulty=True)
        found = self.monitor.conditions(self.at + 100.0)
        assert found, self.monitor.standing()
        return found


@pytest.fixture(params=LEARNERS)
def fed(request: pytest.FixtureRequest) -> Fed:
    made = Fed(LEARNERS[request.param])
    made.give(made.kind.usual, faulty=False)
    return made


def sinces(found: list[Condition]) -> set[float | None]:
    made = [one.baseline for one in found]
    assert None not in made
    return {one.since for one in made if one is not None}


def test_it_says_what_it_compares_and_since_when_that_was_learnt(fed: Fed) -> None:
    found = fed.found()
    assert {one.baseline.of for one in found if one.baseline} == {fed.kind.compared}
    (since,) = sinces(found)
    assert since is not None
    if fed.monitor.name == "slow_key":  # Once it is known who asks most, and what others take.
        assert BEGAN + SLOPES_OF < since < BEGAN + SLOPES_OF + CHOOSE_EVERY
    else:
        assert since == BEGAN


def test_it_is_kept_and_what_was_kept_without_it_is_of_an_unknown_time(fed: Fed) -> None:
    kept = json.loads(json.dumps(fed.monitor.state()))
    again, old = Fed(fed.kind), Fed(fed.kind)
    again.at = old.at = fed.at
    again.monitor.restore(kept)
    assert sinces(again.found()) == sinces(fed.found())
    old.monitor.restore(_without(kept))
    assert sinces(old.found()) == {None}


def test_accepted_it_is_learnt_anew_and_since_then(fed: Fed) -> None:
    fed.found()
    fed.monitor.accept()
    accepted = fed.at
    fed.give(fed.kind.usual, faulty=False)
    (since,) = sinces(fed.found())
    assert since is not None
    assert since >= accepted


def test_what_is_kept_of_no_time_is_damaged(fed: Fed) -> None:
    kept = json.loads(json.dumps(fed.monitor.state()))
    before = msgspec.json.encode(fed.monitor.state())
    for damage in ("yesterday", True, [1.0]):
        with pytest.raises(ValueError, match="damaged"):
            fed.monitor.restore(_with(kept, damage))
    assert msgspec.json.encode(fed.monitor.state()) == before


def test_what_users_ask_is_learnt_of_the_service_and_all_else_of_the_release(fed: Fed) -> None:
    """The next release's monitor inherits what is of the users, and with it since when."""
    heir = Fed(fed.kind)
    heir.at = later = fed.at
    heir.give(heir.kind.usual, faulty=False)
    if hasattr(heir.monitor, "inherit"):
        heir.monitor.inherit(fed.monitor.state())
    (since,) = sinces(heir.found())
    assert since is not None
    assert (since < later) == (fed.kind.compared is ASKED)


def test_a_second_larger_reference_is_of_the_first_texts_too() -> None:
    settings = msgspec.structs.replace(TEXTS, drift_texts_later=2_000)
    about = About("drift", *OF, "prompt")
    kind = LEARNERS["drift"]._replace(make=lambda: TextDrift(about, settings, HashedNgrams(64)))
    fed = Fed(kind)
    fed.give(4_000, faulty=False)
    assert "for a larger reference" not in fed.monitor.standing()
    assert sinces(fed.found()) == {BEGAN}


def test_of_what_requests_cost_only_what_is_accepted_is_learnt_anew() -> None:
    fed = Fed(LEARNERS["cost"]._replace(feed=longer))
    fed.give(2_200, faulty=False)
    told = {dict(one.labels)["kind"] for one in fed.found()}
    assert "usd_per_request" not in told
    fed.monitor.accept()
    accepted = fed.at
    fed.kind = LEARNERS["cost"]
    fed.give(2_200, faulty=False)
    since = {dict(one.labels)["kind"]: one.baseline.since for one in fed.found() if one.baseline}
    assert since["usd_per_request"] == BEGAN
    assert {at for kind, at in since.items() if kind in told} == {accepted}


def test_who_is_compared_with_others_is_held_against_nothing_learnt() -> None:
    monitor = SegmentMonitor(*OF, {"a": ("k1",)}, key_unit=str)
    for number in range(4_000):
        key = f"k{number % 2 + 1}"
        failed = key == "k1" and number % 4 == 0
        request(monitor, BEGAN + number, failed=failed, key=key, unit=f"u{number}",
                status=500 if failed else 200)  # fmt: skip
    assert {one.baseline for one in monitor.conditions(BEGAN + 4_000.0)} == {None}


def _without(kept: Any) -> Any:
    """As an earlier version kept it."""
    if isinstance(kept, dict):
        return {name: _without(one) for name, one in kept.items() if name != "learnt_since"}
    return [_without(one) for one in kept] if isinstance(kept, list) else kept


def _with(kept: Any, damage: object) -> Any:
    """With this in place of each time."""
    if isinstance(kept, dict):
        made = {name: _with(one, damage) for name, one in kept.items()}
        if "learnt_since" in kept:
            of = kept["learnt_since"]
            made["learnt_since"] = dict.fromkeys(of, damage) if isinstance(of, dict) else damage
        return made
    return [_with(one, damage) for one in kept] if isinstance(kept, list) else kept
