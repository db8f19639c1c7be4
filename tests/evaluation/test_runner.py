"""Cases are asked concurrently; results survive an interruption; none is lost or doubled."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fairlead.domain.errors import StorageFailed, Unavailable
from fairlead.evaluation.cases import Case, make_case
from fairlead.evaluation.runner import Answer, CaseResult, run_cases
from fairlead.evaluation.scorers import Exact, Numeric

CASES = [make_case(f"q{i}", f"a{i}", tags=(f"t{i % 2}",)) for i in range(20)]


class Replica:
    """Answers right, except what it is told otherwise; counts what it is asked."""

    def __init__(self, *, failures: dict[str, int] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.open = 0
        self.open_most = 0
        self.failures = failures or {}

    async def __call__(self, case: Case) -> Answer:
        self.asked[case.id] += 1
        self.open += 1
        self.open_most = max(self.open_most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        if self.asked[case.id] <= self.failures.get(case.id, 0):
            raise Unavailable("replica gone")
        return Answer(str(case.expected), 1.5)


class Kept:
    def __init__(self) -> None:
        self.results: dict[str, CaseResult] = {}
        self.calls = 0

    async def __call__(self, result: CaseResult) -> None:
        await asyncio.sleep(0)
        self.calls += 1
        self.results[result.case] = result


async def test_every_case_is_asked_once_and_results_come_in_the_order_of_the_cases() -> None:
    replica, kept = Replica(), Kept()
    results = await run_cases(
        CASES, Exact(), ask=replica, known={}, on_result=kept, concurrency=4, retry_delay_s=0
    )
    assert [result.case for result in results] == [case.id for case in CASES]
    assert all(result.score == 1 and result.error is None for result in results)
    assert results[3].tags == ("t1",)
    assert results[3].answer == "a3"
    assert results[3].latency_ms == 1.5
    assert set(replica.asked.values()) == {1}
    assert kept.results == {result.case: result for result in results}
    assert kept.calls == len(CASES)


@pytest.mark.parametrize("concurrency", [1, 3, 1000])
async def test_no_more_cases_are_under_way_than_allowed(concurrency: int) -> None:
    replica = Replica()
    await run_cases(
        CASES, Exact(), ask=replica, known={}, on_result=Kept(), concurrency=concurrency
    )
    assert replica.open_most == min(concurrency, len(CASES))


async def test_a_wrong_answer_is_a_score_of_zero_with_a_reason() -> None:
    async def ask(case: Case) -> Answer:
        return Answer("nonsense")

    (result,) = await run_cases(
        CASES[:1], Exact(), ask=ask, known={}, on_result=Kept(), concurrency=1
    )
    assert result.score == 0
    assert result.error is None
    assert result.reason == "'nonsense' is not 'a0'"


async def test_a_failed_request_is_tried_three_times_and_then_is_an_error_not_a_wrong_answer() -> (
    None
):
    twice, always = CASES[0].id, CASES[1].id
    replica, kept = Replica(failures={twice: 2, always: 99}), Kept()
    results = await run_cases(
        CASES[:3], Exact(), ask=replica, known={}, on_result=kept, concurrency=2, retry_delay_s=0
    )
    assert [replica.asked[case.id] for case in CASES[:3]] == [3, 3, 1]
    assert [result.score for result in results] == [1, None, 1]
    assert results[1].error == "no answer in 3 tries: replica gone"
    assert kept.results[always].error is not None


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError()])
async def test_a_broken_connection_is_a_failed_request(error: Exception) -> None:
    async def ask(case: Case) -> Answer:
        raise error

    (result,) = await run_cases(
        CASES[:1],
        Exact(),
        ask=ask,
        known={},
        on_result=Kept(),
        concurrency=1,
        retry_delay_s=0,
    )
    assert result.score is None
    assert result.error == f"no answer in 3 tries: {str(error) or 'TimeoutError'}"


async def test_a_case_that_cannot_be_scored_is_an_error_and_keeps_its_answer() -> None:
    (result,) = await run_cases(
        CASES[:1], Numeric(), ask=Replica(), known={}, on_result=Kept(), concurrency=1
    )
    assert result.score is None
    assert result.error == "cannot be scored: the expected value must be a number"
    assert result.answer == "a0"


async def test_known_results_are_used_again_but_errors_are_asked_again() -> None:
    replica, kept = Replica(), Kept()
    known = {
        CASES[0].id: CaseResult(CASES[0].id, 0.25),
        CASES[1].id: CaseResult(CASES[1].id, None, error="no answer"),
        "of another suite": CaseResult("of another suite", 1.0),
    }
    results = await run_cases(
        CASES[:3], Exact(), ask=replica, known=known, on_result=kept, concurrency=2
    )
    assert [result.score for result in results] == [0.25, 1, 1]
    assert results[0].tags == ("t0",), "tags come from the suite, they are not kept with a result"
    assert set(replica.asked) == {CASES[1].id, CASES[2].id}
    assert set(kept.results) == {CASES[1].id, CASES[2].id}


@pytest.mark.parametrize("steps", range(1, 40, 3))
async def test_interrupted_anywhere_a_second_run_asks_only_what_was_not_kept(steps: int) -> None:
    first, kept = Replica(), Kept()
    running = asyncio.create_task(
        run_cases(CASES, Exact(), ask=first, known={}, on_result=kept, concurrency=3)
    )
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    (outcome,) = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError | list)
    before = dict(kept.results)
    second = Replica()
    results = await run_cases(
        CASES, Exact(), ask=second, known=before, on_result=kept, concurrency=3
    )
    assert set(second.asked) == {case.id for case in CASES} - set(before)
    assert [result.score for result in results] == [1] * len(CASES)
    assert set(kept.results) == {case.id for case in CASES}


async def test_a_cancellation_lets_a_result_be_kept_to_the_end() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    kept: list[str] = []

    async def keep(result: CaseResult) -> None:
        begun.set()
        await go_on.wait()
        kept.append(result.case)

    running = asyncio.create_task(
        run_cases(CASES[:1], Exact(), ask=Replica(), known={}, on_result=keep, concurrency=1)
    )
    await begun.wait()
    running.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done(), "whoever cancelled it waits until the result is kept"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert kept == [CASES[0].id]


async def test_results_that_cannot_be_kept_end_the_run_with_that_error() -> None:
    def keep(result: CaseResult) -> None:
        raise StorageFailed("disk full")

    with pytest.raises(StorageFailed, match="disk full"):
        await run_cases(CASES, Exact(), ask=Replica(), known={}, on_result=keep, concurrency=4)


async def test_a_defect_in_asking_is_not_hidden_as_a_failed_request() -> None:
    async def ask(case: Case) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_cases(CASES, Exact(), ask=ask, known={}, on_result=Kept(), concurrency=4)


async def test_no_cases_give_no_results() -> None:
    kept = Kept()
    assert (
        await run_cases([], Exact(), ask=Replica(), known={}, on_result=kept, concurrency=4) == []
    )
    assert kept.calls == 0
