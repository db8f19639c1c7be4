"""Strata of risk: kinds of requests that fail more or less often, told apart before they are asked.

A bet on the arm may use what is known of a request when it is assigned, and nothing that came after
(`fairlead.stats.risk`). So each kind of stratum here is one that the gateway knows by then without
reading the request any further, and none is one that a release has a part in: tokens are counted by
a release's tokenizer, behind a release's prompt, and an answer is a release's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from fairlead.domain.errors import InvalidInput

By = Literal["size", "tools", "endpoint", "key", "header"]
NAMED = ("key", "header")
"""Kinds whose strata are declared by the values that they have."""

HEADER = "x-fairlead-risk"
"""In which clients say of what kind a request is, for strata by `header`."""

VALUES_MAX = 30
VALUE_CHARS_MAX = 64
ENDPOINTS = ("chat/completions", "completions", "embeddings", "responses", "messages")
SIZES = (256, 1_024, 4_096, 16_384, 65_536, 262_144)
"""Bytes of a request's body from which on it is of the next class."""

UNKNOWN = -1
"""The stratum of a request of which it was not recorded."""

UNKNOWN_NAME = "unknown"
OTHERS_NAME = "others"
_SENT = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_SIZE_NAMES = (
    "below 256 B", "256 B to 1 KiB", "1 to 4 KiB", "4 to 16 KiB", "16 to 64 KiB",
    "64 to 256 KiB", "256 KiB and more",
)  # fmt: skip


class Strata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a service's requests are told apart. Raises InvalidInput when it does not make sense.

    Attributes:
        by: The size of the request's body (in a conversation all that was said before is in it);
            whether it brings tools; the API that is called; the API key; what the client says in
            the header `x-fairlead-risk`.
        values: Names of keys, or values of the header. Each is a stratum, and all others are one.
    """

    by: By
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = mistake(self.by, self.values)
        if found is None:
            return
        place, words = found
        if place is None:
            raise InvalidInput(f"risk {words}")
        raise InvalidInput(f"risk.values[{place}] {words}: {ascii(self.values[place])[:80]}")

    @property
    def names(self) -> tuple[str, ...]:
        """The strata in words, by their numbers in records."""
        if self.by == "size":
            return _SIZE_NAMES
        if self.by == "tools":
            return ("without tools", "with tools")
        return ENDPOINTS if self.by == "endpoint" else (*self.values, OTHERS_NAME)

    @property
    def count(self) -> int:
        """How many there are, with the one of requests of which it is not known."""
        return len(self.names) + 1

    def place(self, stratum: int) -> int:
        """The stratum of a request by the number in its record; the last one for unknown ones."""
        known = len(self.names)
        return stratum if 0 <= stratum < known else known

    def name(self, place: int) -> str:
        """The stratum at this place in words."""
        return self.names[place] if place < len(self.names) else UNKNOWN_NAME


def mistake(by: By, values: Sequence[str]) -> tuple[int | None, str] | None:
    """What does not make sense: at which of the values, None for all, and what; None for nothing.

    The gateway compares what a client has sent without the space around it, and a header is ASCII:
    another value would never be met.
    """
    if by not in NAMED:
        return (None, f"has values with by: {by}, which has its own") if values else None
    if not 0 < len(values) <= VALUES_MAX:
        return None, f"needs values with by: {by}, 1 to {VALUES_MAX} of them, not {len(values)}"
    for place, value in enumerate(values):
        if not 0 < len(value) <= VALUE_CHARS_MAX:
            return place, f"must have 1 to {VALUE_CHARS_MAX} characters"
        if by == "header" and _SENT.fullmatch(value) is None:
            return place, "must be printable ASCII without space around it, as it is sent"
        if value in values[:place]:
            return place, "is there twice"
        if value in (UNKNOWN_NAME, OTHERS_NAME):
            return place, "is the name of another stratum"
    return None
