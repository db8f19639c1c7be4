from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.observer.tail import FRAME_BYTES_MAX, Taken, take
from fairlead.wire.record import (
    FeedbackRecord,
    ProgressRecord,
    Record,
    RequestRecord,
    encode_record,
)
from fairlead.wire.spool import MAGIC, frame

Make = Callable[..., RequestRecord]


def some_records(make: Make, count: int) -> list[Record]:
    kinds = itertools.cycle("rfrp")
    records: list[Record] = []
    for n, kind in zip(range(count), kinds, strict=False):
        if kind == "r":
            records.append(make(f"q{n}", float(n)))
        elif kind == "f":
            records.append(FeedbackRecord(f"f{n}", f"q{n - 1}", "k1", "correct", 1.0, float(n)))
        else:
            records.append(ProgressRecord(float(n), n - 0.5))
    return records


def encoded(records: list[Record]) -> list[bytes]:
    return [frame(encode_record(record)) for record in records]


def ids(taken: Taken) -> set[str]:
    return {record.id for record in [*taken.requests, *taken.feedback]}


def ids_of(records: list[Record]) -> set[str]:
    return {r.id for r in records if not isinstance(r, ProgressRecord)}


@given(
    cuts=st.lists(st.integers(0, 4000), max_size=30),
    records_max=st.integers(1, 8),
)
def test_in_whatever_pieces_a_segment_grows_each_record_is_taken_once_and_in_order(
    request_record: Make, cuts: list[int], records_max: int
) -> None:
    records = some_records(request_record, 20)
    data = MAGIC + b"".join(encoded(records))
    offset, complete_until = 0, 0.0
    requests: list[RequestRecord] = []
    feedback: list[FeedbackRecord] = []
    for size in [*sorted(cuts), *itertools.repeat(len(data), 20)]:
        taken = take(data[offset:size], offset, final=False, records_max=records_max)
        assert taken.count <= records_max
        assert taken.damages == []
        requests += taken.requests
        feedback += taken.feedback
        offset, complete_until = taken.offset, max(complete_until, taken.complete_until)
    assert requests == [r for r in records if isinstance(r, RequestRecord)]
    assert feedback == [r for r in records if isinstance(r, FeedbackRecord)]
    assert (offset, complete_until) == (len(data), 18.5)


def test_progress_counts_only_once_the_records_before_it_are_taken(request_record: Make) -> None:
    records: list[Record] = [request_record("q1"), request_record("q2"), ProgressRecord(5.0, 4.0)]
    data = MAGIC + b"".join(encoded(records))
    first = take(data, 0, final=False, records_max=2)
    assert (first.count, first.complete_until, first.full) == (2, 0.0, True)
    rest = take(data[first.offset :], first.offset, final=False, records_max=2)
    assert (rest.count, rest.complete_until, rest.offset) == (0, 4.0, len(data))


@given(st.data())
def test_damage_costs_the_frames_it_touches_and_none_behind_them(
    request_record: Make, data: st.DataObject
) -> None:
    records = some_records(request_record, 12)
    parts = [MAGIC, *encoded(records)]
    whole = b"".join(parts)
    at = data.draw(st.integers(0, len(whole) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=min(60, len(whole) - at)))
    broken = whole[:at] + junk + whole[at + len(junk) :]
    taken = take(broken, 0, final=True, records_max=1000)
    untouched, start = set(), len(MAGIC)
    for record, part in zip(records, parts[1:], strict=True):
        end = start + len(part)
        if broken[start:end] == part and not isinstance(record, ProgressRecord):
            untouched.add(record.id)
        start = end
    assert ids(taken) == untouched
    assert taken.offset == len(whole)
    assert len(taken.damages) == (broken != whole)
    assert all(d.offset < at + len(junk) and d.end > at for d in taken.damages)


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([0, 8, 4711]))
def test_any_bytes_are_survived_and_used_up_when_they_are_the_last(
    junk: bytes, magic: bool, start: int
) -> None:
    data = MAGIC + junk if magic else junk
    final = take(data, start, final=True, records_max=10)
    assert final.offset == start + len(data)
    growing = take(data, start, final=False, records_max=10)
    assert start <= growing.offset <= start + len(data)


def test_a_write_that_the_disk_cut_short_costs_nothing_behind_it(request_record: Make) -> None:
    first, lost, *others = encoded([request_record(f"q{n}") for n in range(5)])
    torn = MAGIC + first + lost[:-9]
    waiting = take(torn, 0, final=False, records_max=10)
    assert (ids(waiting), waiting.offset, waiting.damages) == ({"q0"}, 8 + len(first), [])
    data = (torn + b"".join(others))[waiting.offset :]
    taken = take(data, waiting.offset, final=False, records_max=10)
    assert ids(taken) == {"q2", "q3", "q4"}
    (damage,) = taken.damages
    assert (damage.offset, damage.end, damage.torn) == (
        waiting.offset,
        waiting.offset + len(lost) - 9,
        False,
    )


def test_the_torn_end_of_a_dead_segment_is_one_torn_damage(request_record: Make) -> None:
    whole, torn = encoded([request_record("q1"), request_record("q2")])
    for cut in range(1, len(torn)):
        taken = take(MAGIC + whole + torn[:cut], 0, final=True, records_max=10)
        assert (ids(taken), taken.offset) == ({"q1"}, 8 + len(whole) + cut)
        assert [(d.offset, d.torn) for d in taken.damages] == [(8 + len(whole), True)]


@pytest.mark.parametrize("size", [0, 3, 8])
def test_a_segment_that_only_just_begins_is_no_damage(size: int) -> None:
    taken = take(MAGIC[:size], 0, final=False, records_max=10)
    assert (taken.damages, taken.count, taken.offset) == ([], 0, 8 if size == 8 else 0)


def test_a_zero_filled_end_is_one_damage(request_record: Make) -> None:
    (whole,) = encoded([request_record("q1")])
    taken = take(MAGIC + whole + bytes(5000), 0, final=True, records_max=10)
    assert ids(taken) == {"q1"}
    assert [(d.end - d.offset, d.torn) for d in taken.damages] == [(5000, True)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["unheard-of", 1, 2]),
        msgspec.msgpack.encode(["request", "too short"]),
        b"\x97\xa8feedback\xa2\xff\xff" + b"\xa1a" * 5,
        encode_record(FeedbackRecord("f", "q", "k", "n", math.nan, 1.0)),
        encode_record(FeedbackRecord("f", "q", "k", "n", math.inf, 1.0)),
        encode_record(ProgressRecord(1.0, math.inf)),
    ],
)
def test_a_sound_frame_without_a_usable_record_is_skipped(
    request_record: Make, payload: bytes
) -> None:
    before, after = encoded([request_record("q1"), request_record("q2")])
    taken = take(MAGIC + before + frame(payload) + after, 0, final=True, records_max=10)
    assert ids(taken) == {"q1", "q2"}
    assert len(taken.damages) == 1
    assert math.isfinite(taken.complete_until)


@pytest.mark.parametrize(
    "changes", [{"prompt_tokens": 2**63}, {"ttft_ms": math.nan}, {"stratum": 2**63}]
)
def test_numbers_that_no_store_can_keep_do_not_stop_the_others(
    request_record: Make, changes: dict[str, float]
) -> None:
    data = MAGIC + b"".join(encoded([request_record("bad", **changes), request_record("good")]))
    assert ids(take(data, 0, final=False, records_max=10)) == {"good"}


def test_a_long_stretch_of_damage_in_a_growing_segment_is_got_past(request_record: Make) -> None:
    (good,) = encoded([request_record("q1")])
    data = MAGIC + b"\xff" * (3 * FRAME_BYTES_MAX) + good
    offset, rounds = 0, 0
    found: set[str] = set()
    while offset < len(data) and rounds < 10:
        window = data[offset : offset + 2 * FRAME_BYTES_MAX]
        taken = take(window, offset, final=False, records_max=10)
        assert taken.offset > offset
        offset, rounds = taken.offset, rounds + 1
        found |= ids(taken)
    assert found == {"q1"}
