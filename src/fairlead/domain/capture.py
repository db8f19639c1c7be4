"""What of its traffic a service keeps: a sample of prompts and answers, redacted, for a while.

Whether a request is in the sample is decided when it comes, by a hash of its unit: before it is
known which release answers it, let alone how well, and again the same after any crash. So samples
of two releases can be compared, and a conversation is kept as a whole.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput
from fairlead.domain.pattern_size import size_problem
from fairlead.domain.patterns import BadPattern, check_pattern

Redaction = Literal["email", "phone", "card", "iban", "key"]
REDACTIONS: tuple[Redaction, ...] = get_args(Redaction)
PATTERNS_MAX = 20
BYTES_MAX = 64 * 1024
RETENTION_S_MAX = 90 * 86_400.0
PER_MINUTE_MAX = 6_000
_SALT = "capture"


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept.

    Attributes:
        share: Probability in (0, 1] with which a unit (session, user or key) is in the sample.
        prompts, answers: Whether the one and the other are kept.
        bytes_max: Of each prompt and each answer; what is longer is cut.
        retention_s: Seconds after which a sample is deleted.
        per_minute: Most samples that are begun within a minute, over all gateway workers.
        redact: What is replaced before anything is written.
        patterns: Regular expressions of what is replaced besides (see `patterns`).
    """

    share: float
    prompts: bool = True
    answers: bool = True
    bytes_max: int = 16 * 1024
    retention_s: float = 72 * 3600.0
    per_minute: int = 60
    redact: tuple[Redaction, ...] = REDACTIONS
    patterns: tuple[str, ...] = ()


def check_capture(capture: Capture) -> None:
    """Raises InvalidInput with the place of what cannot be."""
    numbers = (
        ("share", capture.share, 1e-6, 1.0),
        ("bytes_max", capture.bytes_max, 64, BYTES_MAX),
        ("retention_s", capture.retention_s, 1.0, RETENTION_S_MAX),
        ("per_minute", capture.per_minute, 1, PER_MINUTE_MAX),
    )
    for name, value, least, most in numbers:
        check_between(f"capture.{name}", value, least, most)
    if len(capture.patterns) > PATTERNS_MAX:
        raise InvalidInput(
            f"capture.patterns: {len(capture.patterns)} of them; at most {PATTERNS_MAX}"
        )
    for index, pattern in enumerate(capture.patterns):
        if problem := size_problem(pattern):
            raise InvalidInput(f"capture.patterns[{index}]: {problem}")
        try:
            check_pattern(pattern)
        except BadPattern as error:
            raise InvalidInput(f"capture.patterns[{index}]: {error}") from None


def is_in_share(purpose: str, unit: str, share: float) -> bool:
    """Whether a unit is in a sample: its hash, salted by the sample's purpose, is below the share.

    No other hash of the unit tells anything of this one, the one of its assignment included.
    """
    text = f"{purpose}\0{unit}".encode()
    digest = hashlib.blake2b(text, digest_size=8, person=b"sample").digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def is_captured(capture: Capture, unit: str) -> bool:
    """Whether what this unit asks and is answered is in the sample."""
    return is_in_share(_SALT, unit, capture.share)
