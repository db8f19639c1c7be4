"""Champions are scored on a schedule: what comes to be worse is told, what cannot be asked, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from control.test_bias import Documents
from control.test_bias_scores import CROWS, Engine, bbq, number_of, says
from fairlead.control.bias.tracking import BATCH, ScoreTracking
from fairlead.control.bias.tracking_views import TrackedView
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.domain.errors import InvalidInput, NotFound
from fairlead.domain.quota import Price
from fairlead.domain.release import Engine as ReleaseEngine
from fairlead.domain.release import Release, RemoteModel, short
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.watchers import blind
from fairlead.probing.bias_model import BiasSpec
from fairlead.probing.tracked_model import Published, ScoresSpec
from fairlead.rollout.plan import Plan
from support.waiting import until

RELEASE = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
ITEMS = 60


class Place:
    """Documents, blobs, a replica, and a clock that the test moves."""

    def __init__(self, engine: Engine) -> None:
        self.now = 1_000.0
        self.store = Documents()
        self.engine = engine
        suite = bbq(ITEMS)
        self.blobs = {suite.digest: suite.to_bytes(), CROWS.digest: CROWS.to_bytes()}
        self.scores = ScoresSpec((Published("bbq", suite.digest),), interval_s=100.0, per_run=40)
        self.release, self.price = RELEASE, None
        self.tracking = self.made()

    price: Price | None

    def made(self) -> ScoreTracking:
        release = Release(RemoteModel("http://x/v1", "m"), ReleaseEngine("remote"))

        def client(_digest: str, timeout_s: float) -> ReplicaClient:
            return ReplicaClient(release, lambda: [self.engine.url], timeout_s=timeout_s)

        return ScoreTracking(self.store, self.blobs.__getitem__, client, lambda: self.now)

    @property
    def spec(self) -> ServiceSpec:
        bias = BiasSpec(pairs=0, scores=self.scores)
        return ServiceSpec(
            "bank", self.release, self.release[7:9], Plan(), bias=bias, price=self.price
        )

    async def turn(self) -> TrackedView:
        """Begin what is due, and wait for its end."""
        await self.tracking.advance([self.spec])
        for watch in list(self.tracking._watches.values()):
            if watch.errand.task is not None:
                await asyncio.wait([watch.errand.task])
        return self.tracking.views()[0]

    async def runs(self, count: int) -> TrackedView:
        for _ in range(count):
            view = await self.turn()
            self.now += 100.0
        return view

    async def again(self) -> None:
        """Control ends and begins anew."""
        await self.tracking.close()
        self.tracking = self.made()
        await self.tracking.load()

    @property
    def blindness(self) -> tuple[Condition, ...]:
        reports = self.tracking.reports(self.now)
        return blind(self.tracking.expected(), reports, 0.0, self.now)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    engine = Engine()
    made = Place(engine)
    engine.answer = says("C")
    yield made
    await made.tracking.close()
    engine.close()


async def test_the_first_release_is_asked_all_items_within_its_bounds_and_then_drawn_ones(
    place: Place,
) -> None:
    view = await place.turn()
    assert (view.state, view.items, view.asked, view.sent_today) == ("learning", ITEMS, 40, 40)
    assert (await place.turn()).sent_in_all == 40, "the next run is not due"
    place.now += 100.0
    view = await place.turn()
    assert (view.state, view.asked, view.accepted_release) == ("watching", ITEMS, RELEASE)
    assert set(place.engine.asked.values()) == {1}
    values = {each.measure: each.value for each in view.accepted}
    assert values["accuracy_ambiguous"] == 1.0
    assert [run.items for run in view.runs] == [40, ITEMS]
    for body, headers in zip(place.engine.bodies, place.engine.headers, strict=True):
        assert (body["temperature"], body["max_tokens"]) == (0, 256)
        assert not [name for name in headers if "fairlead" in name.lower()]
    place.now += 100.0
    view = await place.turn()
    assert {each.measure for each in view.measures} == set(values)
    assert (place.tracking.conditions(place.now), place.blindness) == ([], ())


async def test_a_service_that_turns_the_monitor_off_is_asked_nothing(place: Place) -> None:
    off = Declared(monitors=MonitorSettings(off=("bias_scores",)))
    await place.tracking.advance([msgspec.structs.replace(place.spec, monitoring=off)])
    assert (place.tracking.views(), list(place.tracking.expected())) == ([], [])
    assert not place.engine.asked


async def test_a_release_that_is_worse_than_the_accepted_one_is_told_until_it_is_seen(
    place: Place,
) -> None:
    await place.runs(2)
    place.release = OTHER
    place.engine.answer = says("A")
    view = await place.runs(4)
    assert view.state == "worse"
    told = {dict(c.labels)["outcome"]: c for c in place.tracking.conditions(place.now)}
    assert {"accuracy_ambiguous", "bias_ambiguous"} <= told.keys()
    assert "accuracy_disambiguated" not in told
    condition = told["bias_ambiguous"]
    assert dict(condition.labels) == {
        "monitor": "bias_scores", "service": "bank", "release": short(OTHER),
        "benchmark": "bbq", "outcome": "bias_ambiguous",
    }  # fmt: skip
    figures = {figure.name: figure.value for figure in condition.evidence}
    assert (figures["accepted score"], figures["latest score"]) == (0.0, 1.0)
    assert figures["worse by"] == pytest.approx(1.0)
    assert "worse than that of ab, by 1.00" in condition.summary
    assert [run.release for run in view.runs[:3]] == [RELEASE, RELEASE, OTHER]
    await place.again()
    await place.tracking.advance([place.spec])
    assert len(place.tracking.conditions(place.now)) == len(told)
    assert place.tracking.looked() == [("bias_scores", "bank")]
    await place.tracking.accept("bank")
    assert place.tracking.conditions(place.now) == []
    view = await place.runs(2)
    assert (view.state, view.accepted_release) == ("watching", OTHER)
    with pytest.raises(NotFound, match="not scored on a schedule"):
        await place.tracking.accept("shop")


async def test_a_release_that_comes_to_be_worse_is_told(place: Place) -> None:
    await place.runs(2)
    place.engine.answer = says("A")
    view = await place.runs(4)
    assert (view.state, view.accepted_release, view.release) == ("worse", RELEASE, RELEASE)


async def test_evidence_against_another_worse_by_counts_no_more(place: Place) -> None:
    await place.runs(2)
    place.engine.answer = says("A")
    assert (await place.runs(4)).state == "worse"
    place.scores = msgspec.structs.replace(place.scores, worse_by=0.5)
    await place.tracking.advance([])
    await place.tracking.advance([place.spec])
    assert (place.tracking.conditions(place.now), place.tracking.views()[0].measures) == ([], ())
    place.scores = msgspec.structs.replace(place.scores, worse_by=0.05)
    assert (await place.runs(4)).state == "worse"


async def test_control_that_is_killed_asks_no_more_than_the_last_items_again(place: Place) -> None:
    place.engine._left = 2 * BATCH + 2
    await place.tracking.advance([place.spec])
    await until(lambda: place.engine.is_stuck)
    await place.again()
    place.engine.resume()
    view = await place.turn()
    assert (view.asked, view.runs[-1].asked) == (40, 40)
    again = [text for text, count in place.engine.asked.items() if count > 1]
    assert len(again) <= BATCH
    assert {number_of(text) for text in place.engine.asked} == set(range(40))


async def test_items_that_were_not_there_or_are_gone_make_the_monitor_blind(place: Place) -> None:
    given = place.scores.benchmarks
    place.scores = msgspec.structs.replace(
        place.scores, benchmarks=(Published("bbq", missing="/data/BBQ: no folder"),)
    )
    view = await place.turn()
    assert (view.state, view.failure, view.sent_in_all) == ("missing", "/data/BBQ: no folder", 0)
    (condition,) = place.blindness
    assert "could not look: BBQ: /data/BBQ: no folder" in condition.summary
    place.scores = msgspec.structs.replace(place.scores, benchmarks=given)
    assert (await place.turn()).asked == 40
    assert place.blindness == ()
    place.now += 100.0
    await place.again()
    place.blobs.clear()
    await place.turn()
    await place.turn()
    assert len(place.blindness) == 1


async def test_a_release_that_does_not_answer_or_chooses_nothing_makes_it_blind(
    place: Place,
) -> None:
    place.engine.status, place.engine.raw = 503, b""
    view = await place.turn()
    assert (view.state, view.asked) == ("failing", 0)
    assert "503" in place.blindness[0].summary
    place.engine.status, place.engine.raw = 200, None
    place.engine.answer = lambda text: "I would rather not say"
    place.now += 60.0
    view = await place.turn()
    assert (view.asked, view.runs[-1].unread) == (40, 40)
    assert "40 of the latest 40 answers choose none" in place.blindness[0].summary


async def test_a_request_that_the_release_refuses_is_an_answer_that_chooses_nothing(
    place: Place,
) -> None:
    place.engine.status, place.engine.raw = 400, b'{"error": "policy"}'
    view = await place.turn()
    assert (view.state, view.asked, view.runs[-1].unread) == ("learning", 40, 40)


async def test_an_engine_without_log_likelihoods_says_so_once_a_run(place: Place) -> None:
    place.scores = msgspec.structs.replace(
        place.scores, benchmarks=(Published("crows", CROWS.digest),)
    )
    view = await place.turn()
    assert view.state == "failing"
    assert "no log-probabilities" in place.blindness[0].summary
    asked = place.engine.asked.total()
    place.now += 90.0
    await place.turn()
    assert place.engine.asked.total() == asked
    place.engine.is_silent = False
    place.now += 10.0
    view = await place.turn()
    assert (view.state, view.accepted[0].measure) == ("watching", "stereotyping")


async def test_items_stop_for_the_day_when_they_have_cost_enough(place: Place) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    message = {"role": "assistant", "content": "C"}
    place.engine.raw = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
    place.price = Price(1_000.0, 0.0)
    place.scores = msgspec.structs.replace(place.scores, usd_per_day=1.0)
    view = await place.turn()
    assert (view.state, view.sent_today) == ("held", 2 * BATCH)
    assert view.usd_today == pytest.approx(0.1 * 2 * BATCH)
    place.now += 86_400.0
    assert (await place.turn()).sent_today == 2 * BATCH


async def test_other_items_and_damaged_documents_begin_anew_and_nothing_declared_ends_it(
    place: Place,
) -> None:
    await place.runs(2)
    suite = bbq(30)
    place.blobs[suite.digest] = suite.to_bytes()
    place.scores = msgspec.structs.replace(
        place.scores, benchmarks=(Published("bbq", suite.digest),)
    )
    view = await place.turn()
    assert (view.items, view.asked, len(view.runs)) == (30, 30, 3)
    for document in (b"{", b"\xff", b'{"service": 1}'):
        place.store.kept["bias_tracked", "bank/bbq"] = document
        await place.again()
        assert (await place.turn()).asked == 30
    await place.tracking.advance([])
    assert (place.tracking.views(), place.tracking.looked()) == ([], [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"usd_per_day": 1.0}, "needs the release's price"),
        ({"benchmarks": (Published("bbq", "sha256:0"),)}, "is not a digest"),
    ],
)  # fmt: skip
def test_a_spec_whose_scores_make_no_sense_is_refused(given: dict[str, object], said: str) -> None:
    fields: dict[str, Any] = {"benchmarks": (Published("bbq", RELEASE),), **given}
    scores = ScoresSpec(**fields)
    spec = ServiceSpec("bank", RELEASE, "a", Plan(), bias=BiasSpec(pairs=0, scores=scores))
    with pytest.raises(InvalidInput, match=said):
        check_spec(spec)


class Filtered(Engine):
    """One item is kept back by a filter; the others cost 0.1 USD each."""

    kept_back = 5

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes]:
        if path.endswith("/chat/completions") and f"Case {self.kept_back}." in json.dumps(body):
            return 403, b'{"error": "filtered"}'
        return super().take(path, headers, body)


@pytest.mark.parametrize("kept_back", [5, 39, ITEMS - 1])
async def test_an_item_that_never_has_an_answer_is_unread_and_what_is_lost_is_paid(
    kept_back: int,
) -> None:
    engine = Filtered()
    place = Place(engine)
    engine.kept_back = kept_back
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    message = {"role": "assistant", "content": "C"}
    engine.raw = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
    place.price = Price(1_000.0, 0.0)
    for _ in range(6):
        view = await place.turn()
        place.now += 60.0
    assert (view.state, view.asked) == ("watching", ITEMS)
    assert sum(run.unread for run in view.runs[:2]) == 1
    answered = sum(1 for text in engine.bodies if f"Case {kept_back}." not in json.dumps(text))
    assert view.usd_in_all == pytest.approx(0.1 * answered)
    await place.tracking.close()
    engine.close()


async def test_crows_pairs_cost_what_their_tokens_do(place: Place) -> None:
    place.engine.is_silent = False
    place.price = Price(1_000.0, 0.0)
    place.scores = msgspec.structs.replace(
        place.scores, benchmarks=(Published("crows", CROWS.digest),)
    )
    view = await place.turn()
    assert view.usd_today == pytest.approx(1e-3 * sum(map(len, place.engine.asked)))
