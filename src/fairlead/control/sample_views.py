"""What the REST API gives of samples of prompts and answers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class SampleView(msgspec.Struct, frozen=True):
    """What was asked and answered in one request of a sample, redacted.

    Attributes:
        id: Of the request.
        at, keep_until: When it came, and when it is deleted; Unix times.
        prompt: The conversation, as (role, text).
        is_cut: Whether something is left out for its length.
    """

    id: str
    service: str
    key: str
    unit: str
    at: float
    keep_until: float
    prompt: list[tuple[str, str]]
    answer: str
    is_cut: bool


class Deleted(msgspec.Struct, frozen=True):
    """How many were deleted."""

    count: int


def last_said(turns: Iterable[tuple[str, str]]) -> str:
    """The last words of a person in a conversation, as (role, text); empty if there are none."""
    said = [text for role, text in turns if role not in ("system", "developer", "assistant")]
    return said[-1] if said else ""
