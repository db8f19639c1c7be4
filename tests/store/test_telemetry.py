from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from fairlead.store.interface import Store
from fairlead.store.rows import (
    FeedbackRow,
    GivenFeedback,
    IngestCounts,
    PairRow,
    RecordFilter,
    RequestRow,
    SpoolCursor,
)
from fairlead.wire.record import FeedbackRecord, RequestRecord

Make = Callable[..., RequestRow]
Give = Callable[..., FeedbackRow]


class Warned(msgspec.Struct, frozen=True):
    at: float
    message: str


def test_rows_have_the_fields_of_the_gateways_records_in_their_order() -> None:
    # Where a request is in a trace is told to whom traces are sent, and kept by nobody else.
    own = ("trace", "tried")
    fields = tuple(name for name in RequestRecord.__struct_fields__ if name not in own)
    assert RequestRow.__struct_fields__ == fields
    assert FeedbackRow.__struct_fields__ == FeedbackRecord.__struct_fields__


def test_records_are_taken_in_once_by_id_together_with_the_cursor(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [request_row(f"q{n}", float(n)) for n in range(5)]
    given = [feedback_row("f1", "q1", 1.0)]
    first = store.ingest("b1", rows[:3], given, SpoolCursor(1, 300, 2.5))
    again = store.ingest("b1", rows, given, SpoolCursor(1, 500, 4.5, broken=1))
    assert (first, again) == (IngestCounts(3, 1), IngestCounts(2, 0))
    assert store.open_spool("b1") == SpoolCursor(1, 500, 4.5, broken=1)
    assert sorted(store.records(limit=10), key=lambda r: r.id) == rows


def test_what_is_kept_under_an_id_stays_as_it_is(store: Store, request_row: Make) -> None:
    store.ingest("b1", [request_row("q1", 1.0)], [], SpoolCursor(1, 1))
    store.ingest("b2", [request_row("q1", 9.0, status=500)], [], SpoolCursor(1, 1))
    assert store.records() == [request_row("q1", 1.0)]


def test_a_reader_that_was_overtaken_does_not_take_the_cursor_back(
    store: Store, request_row: Make
) -> None:
    ahead = SpoolCursor(2, 10, 7.0, closed=True, broken=2)
    store.ingest("b1", [], [], ahead)
    for behind in (SpoolCursor(1, 900, 99.0), SpoolCursor(2, 9, 99.0)):
        assert store.ingest("b1", [request_row("q1", 1.0)], [], behind) == IngestCounts(0, 0)
    store.ingest("b1", [], [], SpoolCursor(2, 10, 6.0))
    assert store.open_spool("b1") == ahead


def test_a_batch_that_cannot_be_kept_changes_nothing(store: Store, request_row: Make) -> None:
    unfit = request_row("q2", 2.0, prompt_tokens=2**70)
    with pytest.raises(OverflowError):
        store.ingest("b1", [request_row("q1", 1.0), unfit], [], SpoolCursor(1, 5))
    assert store.records() == []
    assert store.open_spool("b1") == SpoolCursor()


def test_warnings_become_events(store: Store) -> None:
    store.ingest("b1", [], [], SpoolCursor(1, 8), [Warned(3.0, "spool b1: damaged")])
    (event,) = store.events()
    assert (event.at, event.kind, event.message) == (3.0, "spool_damaged", "spool b1: damaged")


def test_the_watermark_is_the_least_of_the_open_spools(store: Store) -> None:
    assert store.watermark() == 0.0
    store.ingest("b1", [], [], SpoolCursor(1, 8, 10.0))
    store.ingest("b2", [], [], SpoolCursor(1, 8, 30.0))
    assert store.watermark() == 10.0
    store.ingest("b1", [], [], SpoolCursor(1, 9, 12.0, closed=True))
    assert store.watermark() == 30.0
    assert set(store.open_spools()) == {"b2"}


def test_with_closed_spools_only_the_watermark_is_their_greatest(store: Store) -> None:
    for boot, until in (("b1", 10.0), ("b2", 30.0)):
        store.ingest(boot, [], [], SpoolCursor(1, 8, until, closed=True))
    assert store.watermark() == 30.0


def test_a_new_spool_does_not_take_the_watermark_back(store: Store) -> None:
    assert store.open_spool("b1") == SpoolCursor()
    store.ingest("b1", [], [], SpoolCursor(1, 8, 10.0))
    assert store.open_spool("b2") == SpoolCursor(complete_until=10.0)
    store.ingest("b2", [], [], SpoolCursor(1, 8, 0.0))
    assert store.watermark() == 10.0


def test_the_judge_reads_requests_of_its_rollout_in_order_with_their_feedback(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [
        request_row(
            "b", 2.0, rollout="r1", phase=2, arm="canary", rho=0.5, status=503, error="x", stratum=4
        ),
        request_row("c", 1.0, rollout="r1", phase=1),
        request_row("a", 2.0, rollout="r1", phase=2),
        request_row("d", 1.5, rollout="r2", phase=1),
        request_row("e", 1.5),
        request_row("f", 3.0, rollout="r1", phase=2),
    ]
    given = [feedback_row("f2", "b", 0.0, at=9.0), feedback_row("f1", "b", 1.0, at=8.0)]
    store.ingest("b1", rows, [*given, feedback_row("f3", "d", 1.0)], SpoolCursor(1, 1))
    found = store.assigned_requests("r1", after=1.0, until=3.0)
    assert [r.id for r in found] == ["c", "a", "b"]
    bad = found[2]
    assert (bad.arm, bad.rho, bad.phase, bad.status, bad.error) == ("canary", 0.5, 2, 503, "x")
    assert (bad.stratum, found[0].stratum) == (4, -1)
    assert bad.feedback == [
        GivenFeedback("correct", 1.0, 8.0),
        GivenFeedback("correct", 0.0, 9.0),
    ]
    assert found[0].feedback == []
    assert store.assigned_requests("", after=0.0, until=9.0) == []


def test_reading_page_by_page_gives_each_request_once_even_when_times_are_equal(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [request_row(f"q{n:02d}", float(n // 4), rollout="r1") for n in range(20)]
    given = [feedback_row(f"f{n}", f"q{n % 20:02d}", 1.0) for n in range(40)]
    store.ingest("b1", rows, given, SpoolCursor(1, 1))
    seen: list[str] = []
    after, after_id = 0.0, ""
    while page := store.assigned_requests("r1", after=after, until=4.0, after_id=after_id, limit=3):
        assert all(len(r.feedback) == 2 for r in page)
        seen += [r.id for r in page]
        after, after_id = page[-1].started_at, page[-1].id
    assert seen == [f"q{n:02d}" for n in range(16)]


def test_records_are_filtered_and_paged_newest_first(store: Store, request_row: Make) -> None:
    rows = [
        request_row("q1", 1.0),
        request_row("q2", 2.0, release="sha256:b", arm="canary", rollout="r1"),
        request_row("q3", 3.0, status=502, key="k2"),
        request_row("q4", 4.0, error="upstream_failed", service="shop"),
        request_row("q5", 4.0),
    ]
    store.ingest("b1", rows, [], SpoolCursor(1, 1))

    def ids(**wanted: object) -> list[str]:
        return [r.id for r in store.records(msgspec.convert(wanted, RecordFilter))]

    assert ids() == ["q5", "q4", "q3", "q2", "q1"]
    assert ids(failed=True) == ["q4", "q3"]
    assert ids(failed=False) == ["q5", "q2", "q1"]
    assert ids(service="shop") == ["q4"]
    assert ids(release="sha256:b") == ids(arm="canary") == ids(rollout="r1") == ["q2"]
    assert ids(key="k2") == ["q3"]
    assert ids(since=2.0, until=4.0) == ["q3", "q2"]
    assert [r.id for r in store.records(before=(4.0, "q5"), limit=2)] == ["q4", "q3"]


def test_one_request_is_shown_with_its_feedback(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    given = [feedback_row("f1", "q1", 1.0, at=5.0), feedback_row("f2", "q1", 0.0, at=4.0)]
    store.ingest("b1", [request_row("q1", 1.0)], given, SpoolCursor(1, 1))
    assert store.record("q1") == (request_row("q1", 1.0), [given[1], given[0]])
    assert store.record("q2") is None


def test_served_requests_are_counted_by_release_and_rollout(
    store: Store, request_row: Make
) -> None:
    rows = [request_row("q1", 1.0), request_row("q2", 2.0, rollout="r1")]
    store.ingest("b1", rows, [], SpoolCursor(1, 1))
    assert store.count_served("sha256:a") == 2
    assert store.count_served("sha256:a", "r1") == 1
    assert store.count_served("sha256:d") == 0


def test_copies_of_requests_are_no_requests_of_clients(store: Store, request_row: Make) -> None:
    rows = [
        request_row("q1", 1.0, rollout="r1", release="sha256:a"),
        request_row("q1.shadow", 1.0, rollout="r1", release="sha256:b", arm="shadow", status=500),
        request_row("q2", 1.0, release="sha256:a"),
        request_row("q2.shadow", 1.0, release="sha256:b", arm="shadow"),
    ]
    store.ingest("b1", rows, [], SpoolCursor(1, 1))
    assert [r.id for r in store.assigned_requests("r1", after=0.0, until=9.0)] == ["q1"]
    assert store.count_served("sha256:b") == 0
    assert [f.release for f in store.release_figures(since=0.0, until=9.0)] == ["sha256:a"]
    shadows = store.records(RecordFilter(arm="shadow"))
    assert {r.id for r in shadows} == {"q1.shadow", "q2.shadow"}


def test_pairs_are_read_in_the_order_in_which_the_copies_were_sent(
    store: Store, request_row: Make
) -> None:
    def pair(
        name: str, at: float, live: tuple[int, str] = (200, ""), copy: tuple[int, str] = (200, "")
    ) -> list[RequestRow]:
        return [
            request_row(
                name, at - 0.5, status=live[0], error=live[1], attempts=2, unit=f"unit-of-{name}",
                refused=0, guardrail_hits=0,
            ),
            request_row(
                f"{name}.shadow", at, rollout="r1", arm="shadow", status=copy[0], error=copy[1],
                duration_ms=7.0, refused=1, malformed=0, guardrail_hits=2,
            ),
        ]  # fmt: skip

    rows = [
        *pair("q2", 2.0, copy=(502, "upstream_error")),
        *pair("q1", 1.0),
        *pair("q3", 2.0, live=(502, "upstream_error")),
        *pair("q4", 3.0, copy=(499, "shadow_ended")),
        *pair("q5", 3.0, live=(499, "")),
        request_row("q6.shadow", 3.0, rollout="r1", arm="shadow", status=500),
        request_row("q7", 3.0, rollout="r1"),
        *pair("q8", 4.0),
    ]
    store.ingest("b1", rows, [], SpoolCursor(1, 1))
    found = store.shadow_pairs("r1", after=(0.0, ""), until=4.0)
    given_up = ["q4.shadow", "q5.shadow"]
    assert [row.id for row in found] == ["q1.shadow", "q2.shadow", "q3.shadow", *given_up]
    assert found[1] == PairRow(
        "q2.shadow", 2.0, 200, "", 2, found[1].live_duration_ms, 502, "upstream_error",
        found[1].attempts, 7.0, "unit-of-q2", 0, -1, 1, 0, 0, 2,
    )  # fmt: skip
    assert store.shadow_pairs("r1", after=(1.0, "q1.shadow"), until=4.0, limit=1) == found[1:2]
    assert store.shadow_pairs("r1", after=(2.0, "q2.shadow"), until=9.0)[0] == found[2]
    assert store.shadow_pairs("", after=(0.0, ""), until=9.0) == []


def test_pruning_deletes_what_is_old_in_bounded_batches_and_nothing_else(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [request_row(f"q{n:02d}", float(n)) for n in range(10)]
    given = [feedback_row(f"f{n}", f"q{n:02d}", 1.0, at=float(n)) for n in range(10)]
    store.ingest("b1", rows, given, SpoolCursor(1, 1, 3.0, closed=True))
    store.ingest("b2", [], [], SpoolCursor(1, 1, 5.0, closed=True))
    deleted = []
    while count := store.prune(6.0, limit=4):
        deleted.append(count)
    assert deleted == [8, 4]
    assert [r.id for r in store.records()] == ["q09", "q08", "q07", "q06"]
    kept = store.record("q06")
    assert kept is not None
    assert len(kept[1]) == 1
    assert store.watermark() == 5.0
    assert store.open_spool("b1") == SpoolCursor(complete_until=5.0)


def test_units_of_an_arm_are_read_by_their_last_request(store: Store, request_row: Make) -> None:
    rows = [
        request_row("a", 1.0, rollout="r1", phase=2, arm="canary", unit="u1"),
        request_row("b", 2.0, rollout="r1", phase=2, arm="canary", unit="u2"),
        request_row("c", 3.0, rollout="r1", phase=2, arm="canary", unit="u1"),
        request_row("d", 3.0, rollout="r1", phase=2, arm="champion", unit="u3"),
        request_row("e", 3.0, rollout="r1", phase=1, arm="canary", unit="u4"),
        request_row("f", 3.0, rollout="r2", phase=2, arm="canary", unit="u5"),
        request_row("g", 9.0, rollout="r1", phase=2, arm="canary", unit="u6"),
    ]
    store.ingest("b1", rows, [], SpoolCursor(1, 1))
    given = {"phase": 2, "arm": "canary", "since": 1.0, "until": 9.0}
    assert store.units_under("r1", **given, limit=9) == ["u1", "u2"]
    assert store.units_under("r1", **given, limit=1) == ["u1"]
    assert store.units_under("r1", **{**given, "since": 2.5}, limit=9) == ["u1"]
    assert store.units_under("", **given, limit=9) == []


def test_a_release_s_requests_are_read_in_and_outside_of_rollouts(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [
        request_row("a", 1.0, release="R", rollout="r1", phase=2, arm="champion"),
        request_row("b", 2.0, release="R"),
        request_row("c", 2.0, release="other"),
        request_row("d", 2.5, release="R", service="another"),
        request_row("e.shadow", 2.5, release="R", arm="shadow"),
        request_row("f", 4.0, release="R"),
    ]
    store.ingest("b1", rows, [feedback_row("f1", "b", 1.0, at=3.0)], SpoolCursor(1, 1))
    found = store.served_requests(rows[0].service, "R", after=0.0, until=4.0)
    assert [r.id for r in found] == ["a", "b"]
    assert found[1].feedback == [GivenFeedback("correct", 1.0, 3.0)]
    rest = store.served_requests(rows[0].service, "R", after=1.0, after_id="a", until=9.0, limit=1)
    assert [r.id for r in rest] == ["b"]
