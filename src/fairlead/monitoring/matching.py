"""Matchers: which alerts are meant, by their labels, written as Prometheus and Alertmanager do."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.patterns import BadPattern, check_pattern, found

_TEXT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
MATCHERS_MAX = 20


class Op(enum.StrEnum):
    """How a label's value is compared. Patterns match the whole of it."""

    IS = "="
    IS_NOT = "!="
    LIKE = "=~"
    UNLIKE = "!~"


class Matcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison. A label that is not there has the empty value, as in Prometheus."""

    name: str
    op: Op
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are meant."""
        value = labels.get(self.name, "")
        if self.op in (Op.IS, Op.IS_NOT):
            return (value == self.value) is (self.op is Op.IS)
        return found(f"^(?:{self.value})$", value) is (self.op is Op.LIKE)

    def __str__(self) -> str:
        return f'{self.name}{self.op}"{self.value}"'


def parse_matcher(text: str) -> Matcher:
    """`service=bank`, `slo!="ttft"`, `replica=~"r[12]"`; raises InvalidInput."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{ascii(text)[:80]} is no matcher", hint="write NAME=VALUE, with =, !=, =~ or !~"
        )
    name, op, value = match.groups()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    matcher = Matcher(name, Op(op), value)
    check_matchers((matcher,))
    return matcher


def check_matchers(matchers: Iterable[Matcher]) -> None:
    """Raises InvalidInput for a pattern that does not compile."""
    for matcher in matchers:
        if matcher.op in (Op.LIKE, Op.UNLIKE):
            try:
                # By itself, too: `a)|(b` would be one only within the group.
                check_pattern(matcher.value)
                check_pattern(f"^(?:{matcher.value})$")
            except BadPattern as error:
                raise InvalidInput(f"{matcher}: is no pattern: {error}") from None


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher matches; true for none."""
    return all(matcher.matches(labels) for matcher in matchers)
