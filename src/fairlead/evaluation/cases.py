"""Suites: the cases of an evaluation, content-addressed.

A case's id is the digest of what is asked and expected, after the name that the file gives it, if
it gives one (`refund-3.9f86d081884c7d65`). A result that is kept for a case id therefore can never
be taken for a case that has been edited since.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Damaged
from fairlead.domain.release import sha256_digest

CASES_MAX = 200_000


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question and what is expected of the answer.

    Attributes:
        id: Names the case by its content; see the head of this file.
        input: The user's message, or all messages of a conversation in OpenAI's form.
        expected: Any JSON value; what it means is up to the scorer.
        tags: Slices by which results are broken down.
    """

    id: str
    input: str | list[dict[str, Any]]
    expected: Any = None
    tags: tuple[str, ...] = ()


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cases in the order of their file, no two with the same id."""

    cases: tuple[Case, ...]
    schema: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """The one JSON encoding of this suite: keys sorted, no white space."""
        return msgspec.json.encode(self, order="sorted")

    @staticmethod
    def from_bytes(data: bytes) -> Suite:
        """Decode `to_bytes()`; raises Damaged on anything else."""
        try:
            return decode_json(data, Suite)
        except msgspec.DecodeError as error:
            raise Damaged(f"the stored suite cannot be read: {error}") from None

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of `to_bytes()`."""
        return sha256_digest(self.to_bytes())

    def sample(self, n: int) -> tuple[Case, ...]:
        """At most `n` cases, chosen by the hash of their ids, in the suite's order.

        The same cases each time; those of a smaller sample are among those of a larger one, and
        cases added to the suite replace few of them. All cases when `n` is 0.
        """
        if n <= 0 or n >= len(self.cases):
            return self.cases
        chosen = set(sorted((_rank(case.id), case.id) for case in self.cases)[:n])
        return tuple(case for case in self.cases if (_rank(case.id), case.id) in chosen)


def order_of_runs(suite: Suite) -> tuple[Case, ...]:
    """All cases in an order that follows from their hashes: those that `sample` takes come last.

    So runs that go through them by and by begin with those that a sample has not asked.
    """
    return tuple(sorted(suite.cases, key=lambda case: (_rank(case.id), case.id), reverse=True))


def make_case(
    input: str | list[dict[str, Any]],
    expected: Any = None,
    *,
    name: str = "",
    tags: tuple[str, ...] = (),
) -> Case:
    """A case under the id that its content gives it. `expected` must be a JSON value."""
    content = msgspec.json.encode([input, expected], order="sorted")
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Case(f"{name}.{digest}" if name else digest, input, expected, tags)


def _rank(case_id: str) -> bytes:
    return hashlib.sha256(case_id.encode()).digest()
