"""The samples of one rollout, in the order in which their requests began, and their judge.

What decides is in the store: which samples there are, what was said of each, and what it cost. An
attempt is written down, at the most that it can cost, before the judge is asked; what came of it in
the same moment as the feedback that says it, under an id made of the request's. So a control that
is killed at any moment asks again at the most, counts nothing twice, and never spends unseen.

`judged_until` is the time before which every sample has its verdict, or is left without one for
good. The rollout's judge waits for it: when a verdict came has no effect on what it sees
(docs/decisions/0014-a-judge-has-a-watermark-too.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fairlead.control.judging.asking import Asker, Reply
from fairlead.control.judging.budget import DAY_S, Stop, day_of, stop_of
from fairlead.control.judging.pacing import (
    AHEAD_S,
    Enrolments,
    Pacer,
    Shares,
    Standing,
    is_judged,
)
from fairlead.domain.decoding import decode_json
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.evaluation.judge_model import Exchange, JudgeModel
from fairlead.store.interface import Store
from fairlead.store.rows import (
    FeedbackRow,
    JudgementOutcome,
    JudgementRow,
    JudgeSpend,
    SampleFilter,
    SampleToJudge,
)

WINDOW = 200
"""Samples that are looked at together."""
OUTAGE_ATTEMPTS_MAX = 30
"""Attempts after which a sample is left without a verdict though the judge could not be asked."""
REST_S_FIRST, REST_S_MAX = 1.0, 60.0
FRUITLESS_MAX = 3
"""Samples without a verdict, one after the other, by which a judge is taken to give none: one alone
may be to blame itself."""
WATERMARK_SLACK_S = 1.0
"""As for records: a worker that has just started may write so long before its spool is known."""
_OK = 200


class JudgeQueue:
    """See the head of this file.

    Args:
        now: Unix time in seconds.
        decides: Whether the rollout is judged by these verdicts, rather than accompanied by them.
        settle_s: Seconds for which requests of a unit count after its first one.

    Attributes:
        pending: Samples that wait, of the `WINDOW` that were looked at last.
        is_full: Whether there are more behind those that were not looked at.
    """

    def __init__(
        self,
        store: Store,
        asker: Asker,
        rollout: str,
        service: str,
        now: Callable[[], float],
        *,
        decides: bool,
        settle_s: float = 0.0,
    ) -> None:
        self._store = store
        self._asker = asker
        self._judge = asker.judge
        self.rollout = rollout
        self.service = service
        self._now = now
        self.decides = decides
        self.judged_until: float | None = None
        self.stop: Stop | None = None
        self.trouble = ""
        self.pending = 0
        self.is_full = False
        self.oldest: float | None = None
        self._recorded_until = 0.0
        self.shares = kept_shares(store, rollout, self._judge.share)
        self._pacer = Pacer()
        self._enrolled = Enrolments(settle_s)
        self._after: tuple[float, str] = (0.0, "")
        self._rests_until = 0.0
        self._rest_s = REST_S_FIRST
        self._again_at: dict[str, float] = {}
        self._fruitless: set[str] = set()
        self._lock = asyncio.Lock()

    @property
    def judge(self) -> JudgeModel:
        """Who is asked."""
        return self._judge

    @property
    def rests(self) -> bool:
        """Whether nobody is there to be asked."""
        return self._now() < self._rests_until

    @property
    def is_out(self) -> bool:
        """Whether nobody answered when it asked last."""
        return self._rest_s > REST_S_FIRST

    @property
    def is_blind(self) -> bool:
        """Whether none of the last samples got a verdict: nobody answers, or not in time, or what
        is answered holds none."""
        return self.is_out or len(self._fruitless) >= FRUITLESS_MAX

    async def turn(self) -> bool:
        """Ask about the next samples, as many as may be asked about at once; whether there were.

        Raises FairleadError when the store does.
        """
        async with self._lock:
            return await self._turn()

    async def _turn(self) -> bool:
        if self.rests:
            self._pacer.interrupted()
            return False
        window = await asyncio.to_thread(self._look)
        now = self._now()
        due = [s for s in window if self._again_at.get(s.request, 0.0) <= now]
        unasked = [sample for sample in due if not _is_answered(sample)]
        if unasked:
            # A failed request speaks for itself; the judge is not asked, whichever arm it is of.
            await asyncio.to_thread(self._leave_out, unasked)
        chosen = [sample for sample in due if _is_answered(sample)][: self._judge.concurrency]
        asked = await asyncio.to_thread(self._within_budget, chosen)
        if asked:
            replies = await asyncio.gather(*(self._asker(exchange) for _, exchange in asked))
            await asyncio.to_thread(self._keep, [sample for sample, _ in asked], replies)
        if asked or unasked:
            await asyncio.to_thread(self._look)
        await asyncio.to_thread(self._pace)
        return bool(asked or unasked)

    def _pace(self) -> None:
        """Ask about less while it cannot keep up: kept before it is in force."""
        if self.stop is not None or self.is_out:
            self._pacer.interrupted()
            return
        now = self._now()
        seen = Standing(
            now, self.judged_until or 0.0, self._recorded_until, self.pending,
            self._judge.concurrency, self.is_full,
        )  # fmt: skip
        share = self._pacer.share(self.shares, seen)
        if share is not None:
            shares = self.shares.changed(now + AHEAD_S, share)
            self._store.set_setting(_key(self.rollout), msgspec.json.encode(shares).decode())
            self.shares = shares

    def _look(self) -> list[SampleToJudge]:
        """The samples without a verdict, the oldest first; moves on over those that have one."""
        watermark = self._store.watermark() - WATERMARK_SLACK_S
        rows = self._read(watermark)
        window = [row for row in rows if self._is_open(row)]
        first = window[0] if window else None
        for row in rows:
            if first is not None and row.request == first.request:
                break
            self._after = (row.started_at, row.request)
        until = watermark if len(rows) < WINDOW else self._after[0]
        until = until if first is None else first.started_at
        self.judged_until = max(self.judged_until or 0.0, until)
        self._recorded_until = watermark
        self.pending = len(window)
        # Of a small share few wait in a window, however many wait behind it. What is asked about
        # again and again holds the window, and is no backlog.
        is_held = bool(window) and all(row.judgement for row in window)
        self.is_full = len(rows) == WINDOW and not is_held
        self.oldest = None if first is None else first.started_at
        return window

    def _read(self, until: float) -> list[SampleToJudge]:
        """The next samples after those that were passed over, `WINDOW` at most."""
        after, after_id = self._after
        return self._store.samples_of_rollout(
            self.rollout, after=after, after_id=after_id, until=until, limit=WINDOW
        )

    def _is_chosen(self, row: SampleToJudge) -> bool:
        """Whether it is this queue's: assigned at random."""
        return 0.0 < row.rho < 1.0

    def _share_of(self, row: SampleToJudge) -> float:
        """The share of units that are judged, as of the one whose request this is."""
        return self.shares.at(self._enrolled.moment(row.phase, row.unit, row.started_at))

    def _is_open(self, row: SampleToJudge) -> bool:
        """Whether it is to have a verdict, and has none."""
        if not self._is_chosen(row) or not is_judged(row.unit, self._share_of(row)):
            return False
        return row.judgement is None or row.judgement.outcome in ("asked", "retried")

    def _within_budget(
        self, samples: Sequence[SampleToJudge]
    ) -> list[tuple[SampleToJudge, Exchange]]:
        """Those that may be asked about, with their texts; the attempt is kept, at its most."""
        if not samples:
            return []
        stop_at = self._budget()
        rows: list[JudgementRow] = []
        asked: list[tuple[SampleToJudge, Exchange]] = []
        usd = 0.0
        self.stop = None
        for sample in samples:
            exchange = self._exchange(sample.request)
            if exchange is None:
                continue  # deleted since the look
            most = self._asker.most_usd(exchange)
            self.stop = stop_at(usd, most, len(rows))
            if self.stop is not None:
                break
            usd += most
            rows.append(self._row(sample, "asked", attempts=1, usd=most))
            asked.append((sample, exchange))
        self._store.begin_judgements(rows)
        return asked

    def _budget(self) -> Callable[[float, float, int], Stop | None]:
        """Whether one more question is too much, by what is spent until now.

        It is told what those before it cost in USD, what this one costs, and how many came before.
        """
        spent, today = self.spend()
        budget = self._judge.budget
        return lambda before, usd, asked: stop_of(budget, today, spent, before + usd, asked + 1)

    def _exchange(self, request: str) -> Exchange | None:
        """What was asked and answered; None if it is not kept any more."""
        found = self._store.samples(SampleFilter(request=request), limit=1)
        if not found:
            return None
        try:
            turns = tuple(decode_json(found[0].prompt.encode(), list[tuple[str, str]]))
        except msgspec.DecodeError:
            turns = ()
        return Exchange(turns, found[0].answer, found[0].is_cut)

    def _leave_out(self, samples: Sequence[SampleToJudge]) -> None:
        self._store.begin_judgements([self._row(sample, "asked") for sample in samples])
        self._settle([(s, self._row(s, "none", reason="the request failed")) for s in samples])

    def _keep(self, samples: Sequence[SampleToJudge], replies: Sequence[Reply]) -> None:
        is_out = all(reply.is_outage for reply in replies)
        settled: list[tuple[SampleToJudge, JudgementRow]] = []
        again: list[JudgementRow] = []
        for sample, reply in zip(samples, replies, strict=True):
            before = sample.judgement
            attempts = (before.attempts if before else 0) + 1
            usd = (before.usd if before else 0.0) + reply.usd
            limit = OUTAGE_ATTEMPTS_MAX if is_out else self._judge.attempts
            if reply.verdict is not None:
                score, reason = reply.verdict.score, reply.verdict.reason
                row = self._row(sample, "judged", score=score, reason=reason, usd=usd)
                settled.append((sample, row))
            elif attempts >= limit:
                settled.append((sample, self._row(sample, "none", reason=reply.why, usd=usd)))
            else:
                again.append(self._row(sample, "retried", reason=reply.why, usd=usd))
                self._again_at[sample.request] = self._now() + min(2.0**attempts, REST_S_MAX)
        self._store.settle_judgements(again, [])
        self._settle(settled)
        self._rest((sample.request for sample in samples), replies, is_out=is_out)

    def _settle(self, settled: Sequence[tuple[SampleToJudge, JudgementRow]]) -> None:
        given = [
            FeedbackRow(
                id=f"jd_{sample.request}",
                request=sample.request,
                key="",
                name=UNJUDGED if row.score is None else JUDGED,
                value=0.0 if row.score is None else row.score,
                # The moment that it is about: when it was said must not matter.
                at=sample.started_at,
            )
            for sample, row in settled
        ]
        self._store.settle_judgements([row for _, row in settled], given)
        for sample, _ in settled:
            self._again_at.pop(sample.request, None)

    def _rest(self, asked: Iterable[str], replies: Sequence[Reply], *, is_out: bool) -> None:
        """While nobody is there to be asked, the queue stands, longer each time."""
        self.trouble = next((reply.why for reply in replies if reply.verdict is None), "")
        if any(reply.verdict is not None for reply in replies):
            self._fruitless.clear()
        elif len(self._fruitless) < FRUITLESS_MAX:
            self._fruitless.update(asked)
        if is_out:
            self._rests_until = self._now() + self._rest_s
            self._rest_s = min(2 * self._rest_s, REST_S_MAX)
        else:
            self._rest_s = REST_S_FIRST

    def _row(
        self,
        sample: SampleToJudge,
        outcome: JudgementOutcome,
        *,
        score: float | None = None,
        reason: str = "",
        attempts: int = 0,
        usd: float = 0.0,
    ) -> JudgementRow:
        return JudgementRow(
            sample.request, self.service, self.rollout, outcome, score, reason, attempts, usd,
            self._now(),
        )  # fmt: skip

    def no_more(self, ends_at: float | None) -> str:
        """Why nothing more is judged before that time; empty while something may be."""
        if self.stop is None:
            return ""
        goes_on_at = day_of(self._now()) + DAY_S
        is_over = self.stop.is_final or (ends_at is not None and goes_on_at >= ends_at)
        return self.stop.why if is_over else ""

    def spend(self) -> tuple[JudgeSpend, JudgeSpend]:
        """What the rollout has cost, and the service today."""
        return (
            self._store.judge_spend(rollout=self.rollout),
            self._store.judge_spend(service=self.service, since=day_of(self._now())),
        )


def _is_answered(sample: SampleToJudge) -> bool:
    return sample.status == _OK and not sample.error


def kept_shares(store: Store, rollout: str, declared: float) -> Shares:
    """The shares of a rollout as they were kept; reads the store."""
    kept = store.get_setting(_key(rollout))
    if kept is not None:
        with contextlib.suppress(msgspec.DecodeError):
            return decode_json(kept.encode(), Shares)
    return Shares(declared)


def _key(rollout: str) -> str:
    return f"judge_shares:{rollout}"
