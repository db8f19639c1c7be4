"""Frames read back as they were written, and damage is never taken for data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.wire.record import (
    FeedbackRecord,
    ProgressRecord,
    RequestRecord,
    decode_record,
    encode_record,
)
from fairlead.wire.spool import PAYLOAD_BYTES_MAX, BrokenFrame, frame, frames, segment_name

payloads = st.lists(st.binary(max_size=50), max_size=8)


@given(payloads)
def test_frames_read_back_as_written(written: list[bytes]) -> None:
    data = b"".join(frame(p) for p in written)
    read = list(frames(data))
    assert [payload for _, payload in read] == written
    if read:
        assert read[-1][0] == len(data)


@given(payloads, st.integers(min_value=0))
def test_a_torn_tail_ends_the_reading_at_the_last_whole_frame(
    written: list[bytes], cut: int
) -> None:
    data = b"".join(frame(p) for p in written)
    read = [payload for _, payload in frames(data[: cut % (len(data) + 1)])]
    assert read == written[: len(read)]


@given(st.binary(min_size=1, max_size=50), st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_never_yields_another_payload(
    payload: bytes, position: int, change: int
) -> None:
    data = bytearray(frame(payload))
    data[position % len(data)] ^= change
    try:
        read = [p for _, p in frames(bytes(data))]
    except BrokenFrame:
        return
    assert read in ([], [b""]) or read[0] != payload
    assert read == [] or position % len(data) < 8


def test_a_length_beyond_the_bound_is_damage_and_not_waited_for() -> None:
    data = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "little") + b"\0\0\0\0"
    with pytest.raises(BrokenFrame):
        list(frames(data))


def test_segment_names_sort_as_their_numbers() -> None:
    names = [segment_name(n) for n in (1, 2, 10, 99_999_999)]
    assert names == sorted(names)


def test_each_kind_of_record_reads_back() -> None:
    records = [
        RequestRecord(
            "req_1", "s", "sha256:a", "canary", "r1", "k", "u", 0.5, "ro-1", 2, "chat", True, 200,
            "", 1.5, 2.0, 3.0, 4.0, 5, 6, 1,
        ),
        FeedbackRecord("f", "req_1", "k", "success", 1.0, 2.0),
        ProgressRecord(3.0, 2.5),
    ]  # fmt: skip
    assert [decode_record(encode_record(r)) for r in records] == records
