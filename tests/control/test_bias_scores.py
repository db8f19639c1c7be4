"""Scores of published bias benchmarks: asked once, kept with the release, compared item by item."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from control.answering_replica import AnsweringReplica
from control.simulated_world import DIRECT, World
from fairlead.control.bias.scoring import BATCH
from fairlead.control.bias.scoring_model import ScoreRequest, Scoring
from fairlead.domain.errors import InvalidInput, NotFound
from fairlead.domain.quota import Price
from fairlead.evaluation.cases import Suite
from fairlead.evaluation.stereotypes import bbq_suite, crows_suite, expected_bbq
from fairlead.probing.bias_model import BiasSpec
from fairlead.probing.tracked_model import Published, ScoresSpec
from fairlead.stats.monitors.stereotypes import ALL
from support.waiting import until

GROUPS = ("old", "nonOld", "unknown")


def bbq(count: int = 60, first: int = 0) -> Suite:
    """Items of ten templates: half of them leave the answer open."""
    lines = []
    for number in range(first, first + count):
        is_open = number % 2 == 0
        document = {
            "question_index": str(number % 10), "question_polarity": "neg",
            "context_condition": "ambig" if is_open else "disambig", "category": "Age",
            "context": f"Case {number}.", "question": "Who was slow?",
            **{f"ans{i}": f"The {name} one" for i, name in enumerate(GROUPS)},
            "answer_info": {f"ans{i}": [name, name] for i, name in enumerate(GROUPS)},
            "additional_metadata": {"stereotyped_groups": ["old"]}, "label": 2 if is_open else 1,
        }  # fmt: skip
        lines.append(json.dumps(document).encode())
    return bbq_suite({"Age.jsonl": b"\n".join(lines)})


CROWS = crows_suite(
    "crows.csv",
    b"id,sent_more,sent_less,stereo_antistereo,bias_type\n"
    + b"".join(b"%d,old people %d,young %d,stereo,age\n" % (n, n, n) for n in range(40)),
)


class Engine(AnsweringReplica):
    """Also says how likely a prompt is, unless `is_silent`: the longer, the less."""

    is_silent = True

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes]:
        if not path.endswith("/v1/completions"):
            return super().take(path, headers, body)
        text = str(body["prompt"])
        self.asked[text] += 1
        if self.is_silent:
            return 200, json.dumps({"choices": [{"text": "more", "logprobs": None}]}).encode()
        logs = [None, *[-1.0] * (len(text) - 1), -50.0]
        said = {"token_logprobs": logs, "text_offset": list(range(len(text) + 1))}
        return 200, json.dumps({"choices": [{"text": text + "!", "logprobs": said}]}).encode()


@pytest.fixture
async def place(world: World) -> AsyncIterator[World]:
    """A champion whose replicas are an `Engine`."""
    world.engine = Engine()  # type: ignore[attr-defined]
    world.target.base_urls = lambda _engine: world.engine.url  # type: ignore[attr-defined]
    await world.first_champion("a")
    yield world
    world.engine.close()  # type: ignore[attr-defined]


def engine(world: World) -> Engine:
    found: Engine = world.engine  # type: ignore[attr-defined]
    return found


def says(open_answer: str) -> Callable[[str], str]:
    """Right where the context tells, else this."""
    return lambda text: open_answer if number_of(text) % 2 == 0 else "B"


def number_of(text: str) -> int:
    """Of the item, whatever the release's prompt template puts around it."""
    found = re.search(r"Case (\d+)\.", text)
    assert found is not None
    return int(found[1])


def blob(world: World, suite: Suite) -> str:
    return world.registry.put_blob(suite.to_bytes(), "application/json")


async def ticks_until(world: World, done: Callable[[], bool]) -> None:
    """Turn until it is so; what is asked in the background needs real time to be answered."""
    async with asyncio.timeout(60.0):
        while not done():
            await world.plane.tick()
            await asyncio.sleep(0.005)


async def scored(world: World, request: ScoreRequest) -> Scoring:
    begun = await world.plane.bias_scores.begin("bank", request)

    def found() -> Scoring:
        (scoring,) = [s for s in world.plane.bias_scores.all("bank") if s.key == begun.key]
        return scoring

    await ticks_until(world, lambda: found().state != "running")
    return found()


def values(scoring: Scoring) -> dict[str, float]:
    return {s.measure: s.value for s in scoring.scores if s.category == ALL}


async def test_a_release_that_goes_with_the_stereotype_has_a_score_that_says_so(
    place: World,
) -> None:
    engine(place).answer = says("A")
    found = await scored(place, ScoreRequest("bbq", blob(place, bbq())))
    assert (found.state, found.asked, found.of, found.unread) == ("done", 60, 60, 0)
    assert found.release == place.digests["a"]
    assert values(found) == {
        "accuracy_ambiguous": 0.0, "bias_ambiguous": 1.0,
        "accuracy_disambiguated": 1.0, "bias_disambiguated": -1.0,
    }  # fmt: skip
    body = engine(place).bodies[0]
    assert (body["temperature"], body["max_tokens"]) == (0, 256)
    assert set(engine(place).asked.values()) == {1}


async def test_answers_that_choose_nothing_are_counted_and_in_no_score(place: World) -> None:
    engine(place).answer = lambda text: "I would rather not say" if "Case 1" in text else "C"
    found = await scored(place, ScoreRequest("bbq", blob(place, bbq())))
    assert found.unread == 11  # 1 and 10 to 19
    assert {s.n for s in found.scores if s.measure == "accuracy_ambiguous"} == {25}


async def test_releases_are_compared_item_by_item(place: World) -> None:
    """The second one says "unknown" in place of the stereotype; other items are left out."""
    engine(place).answer = says("A")
    await scored(place, ScoreRequest("bbq", blob(place, bbq())))
    engine(place).answer = says("C")
    await place.finish(await place.ship("b", plan=DIRECT))
    later = await scored(place, ScoreRequest("bbq", blob(place, bbq(60, first=20))))
    assert later.release == place.digests["b"]
    (found,) = await place.plane.bias_scores.differences("bank", "a", later.release[:20])
    of_all = {s.measure: s for s in found.scores if s.category == ALL}
    assert (of_all["bias_ambiguous"].value, of_all["bias_ambiguous"].n) == (-1.0, 20)
    assert of_all["accuracy_ambiguous"].value == 1.0
    assert of_all["bias_disambiguated"].value == 0.0
    assert [s.name for s in place.plane.bias_scores.all("bank")] == ["b", "a"]
    with pytest.raises(NotFound, match="no scores of a release"):
        await place.plane.bias_scores.differences("bank", "a", "c")


async def test_control_that_is_killed_goes_on_and_asks_nothing_twice(place: World) -> None:
    digest, suite = blob(place, bbq(4 * BATCH)), bbq(4 * BATCH)
    engine(place).answer = says("C")
    engine(place)._left = 2 * BATCH + 5
    await place.plane.bias_scores.begin("bank", ScoreRequest("bbq", digest))
    await place.plane.tick()
    await until(lambda: engine(place).is_stuck)
    await place.stop()
    engine(place).resume()
    await place.start()
    (before,) = place.plane.bias_scores.all("bank")
    assert (before.state, before.asked) == ("running", 2 * BATCH)
    found = await scored(place, ScoreRequest("bbq", digest))
    assert (found.state, found.asked) == ("done", 4 * BATCH)
    asked = Counter(number_of(text) for text in engine(place).asked.elements())
    assert {asked[number_of(str(case.input))] for case in suite.cases[: 2 * BATCH]} == {1}


async def test_a_release_that_does_not_answer_is_said_to_and_asked_for_the_rest_later(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.control.bias.items.RETRY_S", 0.001)
    engine(place).status, engine(place).raw = 503, b""
    request = ScoreRequest("bbq", blob(place, bbq()))
    found = await scored(place, request)
    assert (found.state, found.asked, found.scores) == ("failed", 0, ())
    assert "503" in found.failure
    engine(place).status, engine(place).raw = 200, None
    engine(place).answer = says("C")
    again = await scored(place, request)
    assert (again.state, again.failure) == ("done", "")
    assert values(again)["accuracy_ambiguous"] == 1.0


async def test_log_likelihoods_decide_crows_pairs(place: World) -> None:
    """The token that the engine adds does not count, and neither does the first one."""
    engine(place).is_silent = False
    found = await scored(place, ScoreRequest("crows", blob(place, CROWS)))
    assert (found.state, values(found)) == ("done", {"stereotyping": 0.0})
    (row, *_) = place.store.case_results(place.digests["a"], "crows@1")
    logs = json.loads(row.answer)
    assert logs["more"] < logs["less"] < 0.0
    assert logs["less"] > -50.0


async def test_an_engine_without_log_probabilities_says_that_it_cannot(place: World) -> None:
    found = await scored(place, ScoreRequest("crows", blob(place, CROWS)))
    assert (found.state, found.scores) == ("failed", ())
    assert "gives no log-probabilities" in found.failure
    assert "vLLM" in found.failure


async def test_what_asking_costs_is_kept(place: World) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    message = {"role": "assistant", "content": "C"}
    engine(place).raw = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
    await place.finish(await place.ship("b", plan=DIRECT, price=Price(10.0, 0.0)))
    found = await scored(place, ScoreRequest("bbq", blob(place, bbq())))
    assert found.usd == pytest.approx(60 * 100 * 10e-6)


@pytest.mark.parametrize("release", ["z", "ab", "sha256:0000000"])
async def test_only_what_runs_can_be_asked(place: World, release: str) -> None:
    digest = blob(place, bbq())
    with pytest.raises(NotFound, match="runs"):
        await place.plane.bias_scores.begin("bank", ScoreRequest("bbq", digest, release))
    with pytest.raises(NotFound):
        await place.plane.bias_scores.begin("other", ScoreRequest("bbq", digest))
    with pytest.raises((NotFound, InvalidInput)):
        await place.plane.bias_scores.begin("bank", ScoreRequest("bbq", "sha256:" + "0" * 64))


def test_a_case_of_a_suite_is_read_as_what_was_put_in() -> None:
    assert {expected_bbq(case).biased for case in Suite.from_bytes(bbq().to_bytes()).cases} == {0}


async def test_champions_are_scored_on_the_schedule_that_their_spec_declares(place: World) -> None:
    engine(place).answer = says("C")
    scores = ScoresSpec((Published("bbq", blob(place, bbq(30))),))
    bias = BiasSpec(pairs=0, scores=scores)
    await place.finish(await place.ship("b", plan=DIRECT, bias=bias))
    views = place.plane.bias_tracking.views
    await ticks_until(place, lambda: [view.state for view in views()] == ["watching"])
    (view,) = views()
    assert (view.asked, view.accepted_release) == (30, place.digests["b"])
    around = place.plane.watching._platform
    assert ("bias_scores", "bank") in around.looked()
    assert "bias_scores" in {watch.monitor for watch in around.watches()}
    assert "bias_scores" in {report.monitor for report in around.reports(place.now)}
