"""What watching keeps is kept whole, and records are read in one order, each once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from sqlalchemy import event

from fairlead.domain.judging import JUDGED
from fairlead.store.interface import Store
from fairlead.store.rows import (
    FeedbackRow,
    JudgementRow,
    MinuteRow,
    RequestRow,
    SampleRow,
    SpoolCursor,
)

Make = Callable[..., RequestRow]


def _sample(request: str, at: float) -> SampleRow:
    return SampleRow(request, "bank", "key", "unit", at, 1e12, '[["user","hello"]]', "hi", False)


def test_documents_are_kept_by_kind_and_key(store: Store) -> None:
    store.commit_documents({("alert", "b"): b"{}", ("alert", "a"): b"1", ("told", "a"): b"2"})
    store.commit_documents({("alert", "a"): b"3"}, [("told", "a"), ("told", "no such")])
    assert store.documents("alert") == {"a": b"3", "b": b"{}"}
    assert store.documents("told") == {}


def test_documents_are_found_by_how_their_keys_begin(store: Store) -> None:
    keys = ("bank/a", "bank/b", "bank", "banker/a", "Bank/a", "b%nk/a", "bank0")
    store.commit_documents({("monitor", key): key.encode() for key in keys})
    store.commit_documents({("part", "bank/a"): b"2"})
    assert store.documents_under("monitor", "bank/") == {"bank/a": b"bank/a", "bank/b": b"bank/b"}
    assert store.keys_under("monitor", "bank/") == ["bank/a", "bank/b"]
    assert store.keys_under("monitor", "b%") == ["b%nk/a"]
    assert store.keys_under("monitor", "") == sorted(keys)
    assert store.keys_under("monitor", "none/") == []


def test_many_documents_are_deleted_at_once(store: Store) -> None:
    keys = [("alert", f"{n}") for n in range(3_000)]
    store.commit_documents(dict.fromkeys(keys, b"{}"))
    store.commit_documents({}, keys[1:])
    assert list(store.documents("alert")) == ["0"]


def test_counts_of_a_minute_add_up_and_old_ones_go(store: Store) -> None:
    def row(minute: int, total: float, bad: float) -> MinuteRow:
        return MinuteRow("bank", minute, "availability", total, bad)

    store.commit_documents({}, minutes=[row(60, 5.0, 1.0), row(120, 2.0, 0.0)])
    store.commit_documents({("position", "bank"): b"1"}, minutes=[row(120, 3.0, 2.0)])
    assert store.minutes("bank", 0) == [row(60, 5.0, 1.0), row(120, 5.0, 2.0)]
    assert store.minutes("bank", 61) == [row(120, 5.0, 2.0)]
    assert store.minutes("other", 0) == []
    assert store.prune_minutes(120) == 1
    assert store.prune_minutes(120) == 0
    assert store.minutes("bank", 0) == [row(120, 5.0, 2.0)]


def test_nothing_is_kept_when_a_part_cannot_be(store: Store) -> None:
    bad = MinuteRow("bank", 60, "availability", None, 0.0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        store.commit_documents({("position", "bank"): b"1"}, minutes=[bad])
    assert store.documents("position") == {}


def test_requests_are_read_on_from_where_one_was(store: Store, request_row: Make) -> None:
    store.open_spool("boot")
    rows = [request_row(f"r{n}", 10.0 + n // 2) for n in range(6)]
    copy = request_row("r0.shadow", 10.0, arm="shadow")
    other = request_row("x", 10.0, service="other")
    store.ingest("boot", [*reversed(rows), copy, other], [], SpoolCursor(offset=1))
    seen = store.requests_after("bank", (0.0, ""), until=12.0, limit=3)
    seen += store.requests_after("bank", (seen[-1].started_at, seen[-1].id), until=12.0)
    assert seen == rows[:4]


def test_feedback_and_texts_come_with_their_requests(store: Store, request_row: Make) -> None:
    store.open_spool("boot")
    rows = [request_row("a", 10.0), request_row("b", 11.0), request_row("c", 9.0, service="other")]
    given = [
        FeedbackRow("f1", "a", "key", "good", 1.0, 20.0),
        FeedbackRow("f2", "gone", "key", "good", 1.0, 21.0),
        FeedbackRow("f3", "b", "key", "good", 0.0, 22.0),
        FeedbackRow("f4", "c", "key", "good", 0.0, 22.0),
    ]
    samples = [_sample("a", 10.0), _sample("b", 11.0), _sample("unrecorded", 12.0)]
    store.ingest("boot", rows, given, SpoolCursor(offset=1), samples=samples)
    said = store.feedback_after("bank", (0.0, ""), until=30.0)
    assert [(one.id, one.value, one.request) for one in said] == [
        ("f1", 1.0, rows[0]),
        ("f3", 0.0, rows[1]),
    ]
    assert store.feedback_after("bank", (22.0, "f3"), until=30.0) == []
    texts = store.texts_after("bank", (10.0, "a"), until=30.0)
    assert [(one.answer, one.request.id) for one in texts] == [("hi", "b")]
    assert store.kept_samples(["a", "no such"]) == {"a"}


def test_a_judges_words_are_read_once_settled_in_the_order_of_asking(
    store: Store, request_row: Make
) -> None:
    store.open_spool("boot")
    rows = [request_row(name, 10.0) for name in "abc"]
    samples = [_sample(name, 10.0) for name in "abc"]
    store.ingest("boot", rows, [], SpoolCursor(offset=1), samples=samples)
    asked = [
        JudgementRow(name, "bank", "ro", "asked", attempts=1, at=at)
        for name, at in (("a", 50.0), ("b", 51.0), ("c", 52.0))
    ]
    store.begin_judgements(asked)

    def settle(name: str, at: float) -> None:
        done = JudgementRow(name, "bank", "ro", "judged", 1.0, attempts=1, at=at)
        store.settle_judgements([done], [FeedbackRow(f"jd_{name}", name, "", JUDGED, 1.0, 10.0)])

    settle("a", 50.0)
    settle("c", 52.0)
    words = store.judged_after("bank", (0.0, ""), until=100.0)
    assert [(one.id, one.value, one.at) for one in words] == [("a", 1.0, 50.0)]
    settle("b", 51.0)
    words = store.judged_after("bank", (50.0, "a"), until=100.0)
    assert [one.id for one in words] == ["b", "c"]
    assert store.feedback_after("bank", (0.0, ""), until=100.0) == []


def test_what_is_never_settled_is_not_waited_for_for_ever(store: Store, request_row: Make) -> None:
    store.open_spool("boot")
    rows = [request_row(name, 10.0) for name in "ab"]
    store.ingest("boot", rows, [], SpoolCursor(offset=1), samples=[_sample(n, 10.0) for n in "ab"])
    store.begin_judgements([JudgementRow("a", "bank", "ro", "asked", attempts=1, at=50.0)])
    done = JudgementRow("b", "bank", "ro", "judged", 0.0, attempts=1, at=60.0)
    store.begin_judgements([msgspec.structs.replace(done, outcome="asked", score=None)])
    store.settle_judgements([done], [])
    assert store.judged_after("bank", (0.0, ""), until=200.0) == []
    assert [one.id for one in store.judged_after("bank", (0.0, ""), until=700.0)] == ["b"]


def test_feedback_is_found_without_going_through_all_requests(
    store: Store, request_row: Make
) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def read() -> int:
        nonlocal steps
        steps = 0
        assert [one.id for one in store.feedback_after("bank", (5.0, ""), until=99.0)] == ["f"]
        return steps

    database = store._db  # type: ignore[attr-defined]
    event.listen(database.engine, "checkout", lambda raw, *_: raw.set_progress_handler(count, 10))
    store.open_spool("boot")
    given = [FeedbackRow("f", "r0", "key", "good", 1.0, 20.0)]
    store.ingest("boot", [request_row("r0", 10.0)], given, SpoolCursor(offset=1))
    before = read()
    rows = [request_row(f"r{n}", 10.0) for n in range(1, 2_000)]
    store.ingest("boot", rows, [], SpoolCursor(offset=2))
    assert read() < before + 10
