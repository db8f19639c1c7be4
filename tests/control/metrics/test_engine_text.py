"""Engines' metrics are read strictly, bounded, and only where they are wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.control.metrics.engine_text import (
    SAMPLES_MAX,
    TEXT_BYTES_MAX,
    NotUnderstood,
    read_engine_text,
)

LLAMA_CPP = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 210
llamacpp:prompt_seconds_total 1.5
llamacpp:tokens_predicted_total 300
llamacpp:tokens_predicted_seconds_total 6.25
llamacpp:n_decode_total 77
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
"""
VLLM = b"""\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m, \\"x\\""} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 1e+03
vllm:request_decode_time_seconds_bucket{le="0.3",model_name="m"} 9.0
vllm:request_decode_time_seconds_sum{model_name="m"} 12.5 1700000000000
process_open_fds 31.0
"""


def test_llama_cpp() -> None:
    reading = read_engine_text(LLAMA_CPP)
    assert reading is not None
    assert reading.engine == "llama.cpp"
    assert reading.values == {
        "requests_running": 2, "requests_waiting": 1, "prompt_tokens_total": 210,
        "generation_tokens_total": 300, "prefill_seconds_total": 1.5,
        "decode_seconds_total": 6.25,
    }  # fmt: skip


def test_vllm_with_several_engines_behind_one_address() -> None:
    reading = read_engine_text(VLLM.replace(b"\n", b"\r\n"))
    assert reading is not None
    assert reading.engine == "vllm"
    assert reading.values == {
        "requests_running": 7, "requests_waiting": 0, "kv_cache_usage_ratio": 0.75,
        "prompt_tokens_total": 1000, "decode_seconds_total": 12.5,
    }  # fmt: skip


def test_the_older_name_counts_where_the_newer_one_is_not() -> None:
    old = read_engine_text(b"vllm:gpu_cache_usage_perc 0.5\n")
    assert old is not None
    assert old.values == {"kv_cache_usage_ratio": 0.5}


@pytest.mark.parametrize("text", [b"", b"up 1\n", b"<html>no metrics</html>", b"vllm:unknown 1\n"])
def test_what_is_of_no_engine_that_is_known_is_none(text: bytes) -> None:
    assert read_engine_text(text) is None


@pytest.mark.parametrize(
    "line",
    [
        b"vllm:num_requests_running", b"vllm:num_requests_running x",
        b"vllm:num_requests_running NaN",
        b"vllm:num_requests_running +Inf", b"vllm:num_requests_running -1",
        b'vllm:num_requests_running{a="b} 1', b"vllm:num_requests_running{a=b} 1",
        b"vllm:num_requests_running 1 2 3", b"vllm:num_requests_running 1\xff",
    ],
)  # fmt: skip
def test_a_line_that_makes_no_sense_makes_none_of_the_text(line: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_engine_text(LLAMA_CPP + line + b"\n")


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(NotUnderstood, match="bytes"):
        read_engine_text(b"#" * (TEXT_BYTES_MAX + 1))
    lines = b"".join(b'vllm:num_requests_running{engine="%d"} 1\n' % n for n in range(SAMPLES_MAX))
    assert read_engine_text(lines)
    with pytest.raises(NotUnderstood, match="values"):
        read_engine_text(lines + b"vllm:num_requests_running 1\n")


@given(st.binary(max_size=300), st.integers(0, len(VLLM)))
def test_nothing_else_comes_of_any_bytes(noise: bytes, place: int) -> None:
    try:
        reading = read_engine_text(VLLM[:place] + noise + VLLM[place:])
    except NotUnderstood:
        return
    assert reading is None or all(0 <= value < float("inf") for value in reading.values.values())
