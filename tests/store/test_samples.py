"""Samples: kept once, found, deleted for good; judged once, whatever is killed in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import (
    FeedbackRow,
    JudgementRow,
    JudgeSpend,
    RequestRow,
    SampleFilter,
    SampleRow,
    SpoolCursor,
)

MakeRow = Callable[..., RequestRow]


def sample(request: str, at: float = 1.0, **changes: Any) -> SampleRow:
    row = SampleRow(request, "bank", "k1", "u1", at, at + 100.0, '[["user","q"]]', "a", False)
    return msgspec.structs.replace(row, **changes)


def ingest(store: Store, *rows: SampleRow, records: Any = ()) -> None:
    store.open_spool("b1")
    store.ingest("b1", records, [], SpoolCursor(1, 9), (), rows)


def test_a_sample_is_kept_once_and_found_by_whom_it_is_of(store: Store) -> None:
    ingest(store, sample("q1"), sample("q2", 2.0, key="k2"), sample("q3", 3.0, unit="u2"))
    ingest(store, sample("q1", answer="another"))
    assert [row.id for row in store.samples(SampleFilter())] == ["q3", "q2", "q1"]
    assert store.samples(SampleFilter(request="q1")) == [sample("q1")]
    assert [row.id for row in store.samples(SampleFilter(key="k2"))] == ["q2"]
    assert [row.id for row in store.samples(SampleFilter(unit="u2"))] == ["q3"]
    assert [row.id for row in store.samples(SampleFilter(), before=(3.0, "q3"), limit=1)] == ["q2"]
    assert store.count_samples() == {"bank": 3}


def test_samples_are_deleted_on_demand_and_by_their_time(store: Store) -> None:
    ingest(store, *(sample(f"q{n}", float(n), key=f"k{n % 2}") for n in range(6)))
    assert store.delete_samples(SampleFilter(key="k0"), limit=2) == 2
    assert store.delete_samples(SampleFilter(key="k0")) == 1
    assert store.delete_samples(SampleFilter(key="k0")) == 0
    assert store.prune_samples(103.0) == 2
    assert [row.id for row in store.samples(SampleFilter())] == ["q5"]


def test_what_is_deleted_is_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}")
    ingest(store, sample("q1", answer="very secret words" * 50))
    begin(store, "q1")
    store.settle_judgements([judged("q1", reason="quite private reasons")], [])
    store.delete_samples(SampleFilter(request="q1"))
    store.close()
    for file in tmp_path.iterdir():
        assert b"very secret words" not in file.read_bytes()


def begin(store: Store, *requests: str, usd: float = 0.5, at: float = 10.0) -> None:
    store.begin_judgements(
        [JudgementRow(r, "bank", "ro-1", "asked", attempts=1, usd=usd, at=at) for r in requests]
    )


def judged(request: str, score: float = 4.0, reason: str = "") -> JudgementRow:
    return JudgementRow(request, "bank", "ro-1", "judged", score, reason, 1, 0.1, 10.0)


def test_a_judgement_counts_once(store: Store, request_row: MakeRow) -> None:
    """Whoever died between asking and keeping asks again; nothing that is settled changes."""
    records = [request_row(f"q{n}", float(n), rollout="ro-1") for n in range(3)]
    ingest(store, *(sample(f"q{n}", float(n)) for n in range(3)), records=records)
    begin(store, "q0", "q1")
    begin(store, "q1")
    assert store.judge_spend(rollout="ro-1") == JudgeSpend(1.5, 3, 0, 0)
    for score in (4.0, 1.0):
        given = [FeedbackRow("jd_q0", "q0", "", "judge", score, 0.0)]
        store.settle_judgements([judged("q0", score)], given)
    begin(store, "q0")
    rows = store.samples_of_rollout("ro-1", after=0.0, until=9.0, limit=9)
    assert [(r.request, r.judgement and r.judgement.outcome) for r in rows] == [
        ("q0", "judged"), ("q1", "asked"), ("q2", None)]  # fmt: skip
    assert rows[0].judgement is not None
    assert (rows[0].judgement.score, rows[0].judgement.usd) == (4.0, 0.1)
    assert store.record("q0") == (records[0], [FeedbackRow("jd_q0", "q0", "", "judge", 4.0, 0.0)])
    assert store.judge_spend(service="bank", since=5.0) == JudgeSpend(1.1, 3, 1, 0)
    assert store.judge_spend(service="bank", since=11.0) == JudgeSpend()


def test_samples_of_a_rollout_come_in_order_without_copies(
    store: Store, request_row: MakeRow
) -> None:
    records = [
        request_row("q2", 2.0, rollout="ro-1"), request_row("q1", 1.0, rollout="ro-1"),
        request_row("q3", 3.0, rollout="ro-2"), request_row("q4", 4.0, rollout="ro-1"),
        request_row("q5", 1.5, rollout="ro-1", arm="shadow"),
    ]  # fmt: skip
    ingest(store, *(sample(f"q{n}") for n in (1, 2, 3, 5)), records=records)
    rows = store.samples_of_rollout("ro-1", after=0.0, until=9.0, limit=9)
    assert [row.request for row in rows] == ["q1", "q2"]
    rows = store.samples_of_rollout("ro-1", after=1.0, after_id="q1", until=9.0, limit=9)
    assert [row.request for row in rows] == ["q2"]
    assert [row.id for row in store.samples(SampleFilter(rollout="ro-2"))] == ["q3"]


@pytest.mark.parametrize("outcome", ["judged", "none"])
def test_words_go_with_their_sample_and_the_score_stays(store: Store, outcome: Any) -> None:
    ingest(store, sample("q1"))
    begin(store, "q1")
    store.settle_judgements(
        [msgspec.structs.replace(judged("q1", reason="r"), outcome=outcome)], []
    )
    assert store.prune_samples(1_000.0) == 1
    assert store.judge_spend(rollout="ro-1").asked == 1


def words(store: Store, request: str) -> str:
    rows = store.samples_of_rollout("ro-1", after=0.0, until=9.0, limit=9)
    (found,) = (row.judgement for row in rows if row.request == request)
    assert found is not None
    return found.reason


def test_words_on_a_sample_that_was_deleted_meanwhile_are_not_kept(
    store: Store, request_row: MakeRow
) -> None:
    """The judge was still asked when its client had it deleted."""
    records = [request_row(f"q{n}", float(n), rollout="ro-1") for n in range(2)]
    ingest(store, sample("q0"), sample("q1"), records=records)
    begin(store, "q0", "q1")
    store.delete_samples(SampleFilter(request="q0"))
    store.settle_judgements([judged("q0", reason="private"), judged("q1", reason="kept")], [])
    ingest(store, sample("q0"))
    assert (words(store, "q0"), words(store, "q1")) == ("", "kept")


def test_judgements_go_with_their_records_once_no_budget_counts_them(
    store: Store, request_row: MakeRow
) -> None:
    ingest(store, records=[request_row("q1", 10.0), request_row("q2", 99_999.0)])
    begin(store, "q1", "q2", "q3", at=11.0)
    begin(store, "q4", at=99_999.0)
    store.prune(86_400.0)
    assert store.judge_spend(rollout="ro-1").asked == 4
    while store.prune(86_420.0):
        pass
    assert store.judge_spend(rollout="ro-1").asked == 2


def test_samples_of_a_release_come_in_order_with_what_was_said_of_them(
    store: Store, request_row: MakeRow
) -> None:
    records = [
        request_row("q3", 3.0), request_row("q1", 1.0, rollout="ro-1"), request_row("q2", 2.0),
        request_row("q4", 4.0, release="another"), request_row("q5", 1.5, arm="shadow"),
        request_row("q6", 6.0, status=502),
    ]  # fmt: skip
    ingest(store, *(sample(f"q{n}", float(n)) for n in (1, 2, 3, 4, 5, 6)), records=records)
    begin(store, "q2")
    release = records[0].release

    def found(after: tuple[float, str], limit: int = 9) -> list[str]:
        rows = store.samples_to_judge("bank", release, after=after, until=6.5, limit=limit)
        return [row.request for row in rows]

    assert found((0.0, "")) == ["q1", "q2", "q3", "q6"]
    assert found((2.0, "q2")) == ["q3", "q6"]
    assert found((0.0, ""), limit=1) == ["q1"]
    rows = store.samples_to_judge("bank", release, after=(1.5, ""), until=3.0, limit=9)
    assert [(row.request, row.judgement is not None, row.started_at) for row in rows] == [
        ("q2", True, 2.0)]  # fmt: skip
    assert store.samples_to_judge("shop", release, after=(0.0, ""), until=9.0, limit=9) == []
