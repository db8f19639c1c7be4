"""Whatever is wrong with the bytes, there is one kind of error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.decoding import decode_json
from fairlead.wire.record import ProgressRecord, decode_record, encode_record
from fairlead.wire.snapshot import Snapshot, decode_snapshot, encode_snapshot


@pytest.mark.parametrize("data", [b'"\xff"', b"[" * 100_000, b"{", b"", b'{"\xff": 1}'])
def test_damaged_json_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, dict[str, int])


@given(st.integers(min_value=0), st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_else(position: int, value: int) -> None:
    snapshot = bytearray(encode_snapshot(Snapshot(3, "ab")))
    snapshot[position % len(snapshot)] = value
    record = bytearray(encode_record(ProgressRecord(1.0, 2.0)))
    record[position % len(record)] = value
    for decode, data in ((decode_snapshot, snapshot), (decode_record, record)):
        try:
            decode(bytes(data))
        except msgspec.DecodeError:
            continue
