"""Reads what llama.cpp and vLLM say of themselves, in Prometheus' text format.

Only a few metrics are wanted, and their names are known. Lines of others are passed over unread; a
line of one of these that is not as the format says makes the whole text one that is not believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

TEXT_BYTES_MAX = 2 << 20
SAMPLES_MAX = 1_000
"""Of one replica: vLLM has one for each of its engines behind one address."""

Engine = Literal["llama.cpp", "vllm"]
How = Literal["sum", "max"]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_PAIR = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_LINE = re.compile(
    rf"({_NAME})(?:\{{(?:{_PAIR}(?:,{_PAIR})*,?)?\}})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*"
)
_FIRST = re.compile(_NAME)


class Figure(msgspec.Struct, frozen=True):
    """One thing that is wanted.

    Attributes:
        suffix: What it is called here, behind `fairlead_replica_`.
        how: How several series of one replica are put together.
        of: What each engine calls it, the newest name first.
    """

    suffix: str
    kind: Literal["counter", "gauge"]
    help: str
    how: How
    of: Mapping[Engine, tuple[str, ...]]


FIGURES = (
    Figure(
        "requests_running",
        "gauge",
        "Requests that the engine works on.",
        "sum",
        {"llama.cpp": ("llamacpp:requests_processing",), "vllm": ("vllm:num_requests_running",)},
    ),
    Figure(
        "requests_waiting",
        "gauge",
        "Requests that wait within the engine.",
        "sum",
        {"llama.cpp": ("llamacpp:requests_deferred",), "vllm": ("vllm:num_requests_waiting",)},
    ),
    Figure(
        "kv_cache_usage_ratio",
        "gauge",
        "Part of the KV cache that is in use, where the engine says so.",
        "max",
        {
            "llama.cpp": ("llamacpp:kv_cache_usage_ratio",),
            "vllm": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        },
    ),
    Figure(
        "prompt_tokens_total",
        "counter",
        "Tokens of prompts, as the engine counts them.",
        "sum",
        {"llama.cpp": ("llamacpp:prompt_tokens_total",), "vllm": ("vllm:prompt_tokens_total",)},
    ),
    Figure(
        "generation_tokens_total",
        "counter",
        "Tokens that the engine made.",
        "sum",
        {
            "llama.cpp": ("llamacpp:tokens_predicted_total",),
            "vllm": ("vllm:generation_tokens_total",),
        },
    ),
    Figure(
        "prefill_seconds_total",
        "counter",
        "Seconds that requests spent on their prompts.",
        "sum",
        {
            "llama.cpp": ("llamacpp:prompt_seconds_total",),
            "vllm": ("vllm:request_prefill_time_seconds_sum",),
        },
    ),
    Figure(
        "decode_seconds_total",
        "counter",
        "Seconds that requests spent on making tokens; divided by those, the time per token.",
        "sum",
        {
            "llama.cpp": ("llamacpp:tokens_predicted_seconds_total",),
            "vllm": ("vllm:request_decode_time_seconds_sum",),
        },
    ),
)
_WANTED = frozenset(name for figure in FIGURES for names in figure.of.values() for name in names)
_ENGINES: dict[str, Engine] = {"llamacpp": "llama.cpp", "vllm": "vllm"}


class NotUnderstood(Exception):
    """What a replica says is too long, or not in the format."""


class Reading(msgspec.Struct, frozen=True):
    """What one replica said: its engine, and values by suffix."""

    engine: Engine
    values: dict[str, float]


def read_engine_text(text: bytes) -> Reading | None:
    """The figures in it; None where it is of no engine that is known. Raises NotUnderstood."""
    samples = _samples(text)
    engine = next((_ENGINES[name.partition(":")[0]] for name in samples), None)
    if engine is None:
        return None
    values = {}
    for figure in FIGURES:
        found = next((samples[name] for name in figure.of[engine] if name in samples), None)
        if found is not None:
            values[figure.suffix] = sum(found) if figure.how == "sum" else max(found)
    return Reading(engine, values)


def _samples(text: bytes) -> dict[str, list[float]]:
    """The values of each metric that is wanted."""
    if len(text) > TEXT_BYTES_MAX:
        raise NotUnderstood(f"its metrics are longer than {TEXT_BYTES_MAX} bytes")
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise NotUnderstood("its metrics are not UTF-8") from None
    found: dict[str, list[float]] = {}
    count = 0
    for line in lines:
        first = _FIRST.match(line)
        if first is None or first[0] not in _WANTED:
            continue
        count += 1
        if count > SAMPLES_MAX:
            raise NotUnderstood(f"it says more than {SAMPLES_MAX} values")
        found.setdefault(first[0], []).append(_value(line))
    return found


def _value(line: str) -> float:
    match = _LINE.fullmatch(line.rstrip("\r"))
    try:
        value = math.nan if match is None else float(match[2])
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise NotUnderstood(f"a line of its metrics makes no sense: {line[:100]!r}")
    return value
