"""A safetensors file is accepted when its header is strict and its tensors tile the data."""

from __future__ import annotations

import json
import struct
import tempfile
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import ModelFileRefused
from fairlead.registry.model_files import ModelFacts
from fairlead.registry.model_files.safetensors import check_safetensors
from registry.model_writer import safetensors


def check(data: bytes) -> ModelFacts:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return check_safetensors(file.fileno(), len(data), "m.safetensors")


def verdict(data: bytes) -> str:
    """Let every exception through but the one that refuses."""
    try:
        return f"accepted with {check(data).tensors} tensors"
    except ModelFileRefused as error:
        return error.message


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFileRefused) as caught:
        check(data)
    return caught.value.message


def tensor(begin: int, end: int, *, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_sound_file_says_what_is_in_it() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor(8, 12, dtype="BF16"),
        "a": tensor(0, 8),
        "scalar": tensor(12, 14, shape=(), dtype="F16"),
        "empty": tensor(14, 14, shape=(0, 7)),
        "packed": tensor(14, 16, shape=(4,), dtype="F4"),
    }
    facts = check(safetensors(header, data=bytes(16)))
    assert (facts.tensors, facts.parameters, facts.quantisation) == (5, 9, "F4")


def test_blanks_may_pad_the_header() -> None:
    raw = json.dumps({"a": tensor(0, 8)}).encode() + b"   "
    assert check(safetensors(raw=raw)).tensors == 1


ONE = json.dumps(tensor(0, 8))
REFUSED = {
    "tensor twice": (safetensors(raw=f'{{"a":{ONE},"a":{ONE}}}'.encode()), "key twice"),
    "field twice": (
        safetensors(raw=b'{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}'),
        "key twice",
    ),
    "not JSON": (safetensors(raw=b'{"a":'), "not strict JSON"),
    "NaN": (safetensors(raw=b'{"a":NaN}'), "has NaN"),
    "a list": (safetensors(raw=b"[1]"), "not a JSON object"),
    "blanks first": (safetensors(raw=b"  {}"), "not a JSON object"),
    "not UTF-8": (safetensors(raw=b'{"\xff":1}'), "not strict JSON"),
    "deep": (safetensors(raw=b'{"a":' + b"[" * 100_000), "not strict JSON"),
    "digits": (safetensors(raw=b'{"a":' + b"9" * 5_000 + b"}"), "not strict JSON"),
    "nothing in it": (safetensors({}), "holds no tensors"),
    "path as name": (safetensors({"../../x": tensor(0, 8)}), "tensor name '../../x'"),
    "two dots": (safetensors({"a..b": tensor(0, 8)}), "tensor name 'a..b'"),
    "long name": (safetensors({"a" * 256: tensor(0, 8)}), "tensor name"),
    "unknown field": (safetensors({"a": {**tensor(0, 8), "x": 1}}), "must have dtype, shape"),
    "no object": (safetensors({"a": 1}), "must have dtype, shape"),
    "unknown dtype": (safetensors({"a": tensor(0, 8, dtype="O")}), "unknown dtype 'O'"),
    "dtype list": (safetensors({"a": tensor(0, 8, dtype=["F32"])}), "unknown dtype"),
    "negative": (safetensors({"a": tensor(0, 8, shape=(-2,))}), "has the shape [-2]"),
    "a fraction": (safetensors({"a": tensor(0, 8, shape=(2.0,))}), "has the shape [2.0]"),
    "true": (safetensors({"a": tensor(0, 8, shape=(True, 2))}), "has the shape [True, 2]"),
    "too large": (safetensors({"a": tensor(0, 8, shape=(2**40, 2**40))}), "has the shape"),
    "wrong size": (safetensors({"a": tensor(0, 8, shape=(3,))}), "cannot take 8 bytes"),
    "backwards": (safetensors({"a": tensor(8, 0)}), "has the offsets [8, 0]"),
    "hole": (safetensors({"a": tensor(0, 8), "b": tensor(16, 24)}, data=bytes(24)), "expected 8"),
    "overlap": (safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, data=bytes(12)), "expected 8"),
    "same bytes": (safetensors({"a": tensor(0, 8), "b": tensor(0, 8)}), "expected 8"),
    "missing bytes": (safetensors(data=bytes(5)), "truncated: 3 bytes are missing"),
    "bytes behind": (safetensors(data=bytes(9)), "has 1 bytes behind"),
    "metadata of numbers": (safetensors({"__metadata__": {"a": 1}, "a": ONE}), "not a map"),
    "metadata list": (safetensors({"__metadata__": [], "a": ONE}), "not a map"),
    "long header": (struct.pack("<Q", 2**40), "claims a header of 1,099,511,627,776 bytes"),
    "short header": (safetensors(raw=b"{}" + b" " * 90)[:50], "truncated"),
    "nothing": (b"", "truncated"),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unsound_file_is_refused_with_the_reason(data: bytes, why: str) -> None:
    message = refusal(data)
    assert message.startswith("m.safetensors: ")
    assert why in message


@settings(max_examples=200, deadline=1000)
@given(st.data())
def test_changed_bytes_are_accepted_or_refused_and_nothing_else(data: st.DataObject) -> None:
    header = {"a": tensor(0, 8), "b": tensor(8, 16), "__metadata__": {"format": "pt"}}
    content = bytearray(safetensors(header, data=bytes(16)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.binary(min_size=1, max_size=5))
        content[at : at + len(change)] = change
    assert verdict(bytes(content)).startswith(("accepted", "m.safetensors: "))


def test_a_million_empty_tensors_are_refused_soon() -> None:
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    raw = b"{" + b",".join(one % number for number in range(250_000)) + b"}"
    data = safetensors(raw=raw, data=b"")
    began = time.process_time()
    assert "more than 100,000 tensors" in refusal(data)
    assert time.process_time() - began < 5.0
