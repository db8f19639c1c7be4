"""Asks a release a suite's cases, several at a time, and scores the answers.

How a case is asked and where results are kept is passed in. A result is handed out as soon as its
case is finished, so that an interrupted run loses at most the answers that were under way: the next
run gets what was kept as `known` and asks only the rest.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import msgspec

from fairlead.domain.errors import FairleadError
from fairlead.evaluation.cases import Case
from fairlead.evaluation.scorers import CannotScore, Scorer, score

TRIES = 3
CONCURRENCY_MAX = 1_024


class Answer(msgspec.Struct, frozen=True):
    """What a release answered, and how long it took."""

    text: str
    latency_ms: float = 0.0


class CaseResult(msgspec.Struct, frozen=True):
    """How a release did on one case.

    Attributes:
        case: Id of the case.
        score: From 0 to 1; None when there is an error instead.
        error: Why there is no score: no answer came, or the case cannot be scored. None otherwise.
        reason: Why the score is not 1.
        answer: The answer's text; empty when none came.
        tags: The case's tags.
        is_answered: Whether an answer came, be it one that cannot be scored.
    """

    case: str
    score: float | None
    error: str | None = None
    reason: str = ""
    answer: str = ""
    latency_ms: float = 0.0
    tags: tuple[str, ...] = ()
    is_answered: bool = True


Ask = Callable[[Case], Awaitable[Answer]]
OnResult = Callable[[CaseResult], Awaitable[None] | None]


async def run_cases(
    cases: Sequence[Case],
    scorer: Scorer,
    *,
    ask: Ask,
    known: Mapping[str, CaseResult],
    on_result: OnResult,
    concurrency: int,
    retry_delay_s: float = 0.5,
) -> list[CaseResult]:
    """Results of all cases, in their order.

    Args:
        ask: Asks one case; a FairleadError, OSError or TimeoutError says that no answer came, and
            is tried again up to `TRIES` times. Any other exception ends the run.
        known: Results by case id that are used again; those with an error are asked again.
        on_result: Gets each new result once, errors too. It is never cut off by a cancellation.
        concurrency: Cases under way at the same time.
        retry_delay_s: Seconds before the second try; twice as many before each further one.

    Cancelled, it stops asking at once; what is in `on_result` by then is finished first.
    """
    results: dict[str, CaseResult] = {}
    for case in cases:
        result = known.get(case.id)
        if result is not None and result.error is None:
            results[case.id] = msgspec.structs.replace(result, tags=case.tags)
    left = iter([case for case in cases if case.id not in results])

    async def work(queue: Iterator[Case]) -> None:
        for case in queue:
            result = await _result_of(case, scorer, ask, retry_delay_s)
            results[case.id] = result
            await _hand_over(on_result, result)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(concurrency, CONCURRENCY_MAX, len(cases)))):
                group.create_task(work(left))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [results[case.id] for case in cases]


async def _result_of(case: Case, scorer: Scorer, ask: Ask, retry_delay_s: float) -> CaseResult:
    error = ""
    for attempt in range(TRIES):
        if attempt:
            await asyncio.sleep(retry_delay_s * 2 ** (attempt - 1))
        try:
            answer = await ask(case)
        except (FairleadError, OSError) as failure:
            error = str(failure) or type(failure).__name__
        else:
            return judge(case, scorer, answer)
    why = f"no answer in {TRIES} tries: {error}"
    return CaseResult(case.id, None, error=why, tags=case.tags, is_answered=False)


def judge(case: Case, scorer: Scorer, answer: Answer) -> CaseResult:
    """Score one answer."""
    given = CaseResult(
        case.id, None, answer=answer.text, latency_ms=answer.latency_ms, tags=case.tags
    )
    try:
        value, reason = score(scorer, answer.text, case.expected)
    except CannotScore as error:
        return msgspec.structs.replace(given, error=f"cannot be scored: {error}")
    return msgspec.structs.replace(given, score=value, reason=reason)


async def _hand_over(on_result: OnResult, result: CaseResult) -> None:
    """Finish keeping a result even when cancelled meanwhile: it has been paid for."""
    outcome = on_result(result)
    if not inspect.isawaitable(outcome):
        return
    keeping = asyncio.ensure_future(outcome)
    try:
        await asyncio.shield(keeping)
    except asyncio.CancelledError:
        await keeping
        raise
