"""Records that were spooled by an older gateway are read by a newer observer."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.wire.record import RequestRecord, decode_record, encode_record

FIELDS_AT_FIRST = 21
NEWEST = RequestRecord(
    "req_1", "s", "sha256:a", "canary", "r1", "k", "u", 0.5, "ro-1", 2, "chat", True, 200,
    "", 1.5, 2.0, 3.0, 4.0, 5, 6, 1, 0.25, 1, 0, "", 2, "a,b", "b", (), 4,
)  # fmt: skip


def spooled_with(fields: int) -> bytes:
    """The record as a gateway wrote it that knew only so many of the fields."""
    tag_and_fields = msgspec.msgpack.decode(encode_record(NEWEST))
    assert len(tag_and_fields) == 1 + len(RequestRecord.__struct_fields__)
    return msgspec.msgpack.encode(tag_and_fields[: 1 + fields])


def test_a_record_without_the_facts_of_its_answer_reads_as_one_where_they_are_unknown() -> None:
    read = decode_record(spooled_with(FIELDS_AT_FIRST))
    unknown = msgspec.structs.replace(
        NEWEST, cost_usd=-1.0, refused=-1, malformed=-1, guardrail_hits=-1, guardrails="",
        blocked_by="", stratum=-1,
    )  # fmt: skip
    assert read == unknown
    assert decode_record(encode_record(NEWEST)) == NEWEST


def test_what_every_record_has_had_must_be_there() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(spooled_with(FIELDS_AT_FIRST - 1))
