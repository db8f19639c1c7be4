"""Regular expressions that cannot run away.

Answers come from a model and patterns from a suite; a backtracking engine can need exponential time
for a harmless-looking pair of them. The engine inside pydantic-core (Rust's regex) matches in time
linear in the text and bounds the size of the compiled pattern; look-around and back-references are
the price.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

PATTERN_CHARS_MAX = 1_000


class BadPattern(ValueError):
    """The pattern does not compile; the message says why."""


@functools.lru_cache(maxsize=256)
def _compile(pattern: str) -> SchemaValidator:
    if len(pattern) > PATTERN_CHARS_MAX:
        raise BadPattern(f"a pattern of {len(pattern)} characters, {PATTERN_CHARS_MAX} are allowed")
    # 5 MB that a gateway worker without patterns does without.
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        why = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
        raise BadPattern(why) from None


def found(pattern: str, text: str) -> bool:
    """Whether the pattern occurs in the text; raises BadPattern."""
    return _compile(pattern).isinstance_python(text)


def check_pattern(pattern: str) -> None:
    """Raises BadPattern when the pattern does not compile."""
    _compile(pattern)
