"""Regular expressions that cannot run away.

Answers come from a model and patterns from a suite; a backtracking engine can need exponential time
for a harmless-looking pair of them. The engine inside pydantic-core (Rust's regex) matches in time
linear in the text and bounds the size of the compiled pattern; look-around and back-references are
the price. What is compiled is kept by its size (`pattern_size`): hundreds of small patterns, or a
few that are very large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.domain.pattern_size import size_of
from fairlead.domain.sized_cache import kept_by_size

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

PATTERN_CHARS_MAX = 1_000
KEPT_BYTES_MAX = 128 * 1024 * 1024
"""Of compiled patterns that are kept, as their size is estimated."""
_ENGINE_BYTES_MAX = 20 * 1024 * 1024
"""The engine refuses what would be larger."""


class BadPattern(ValueError):
    """The pattern does not compile; the message says why."""


def _weigh(pattern: bytes) -> int:
    return min(size_of(pattern.decode()).bytes, _ENGINE_BYTES_MAX)


@kept_by_size(KEPT_BYTES_MAX, _weigh)
def _compile(encoded: bytes) -> SchemaValidator | BadPattern:
    """A pattern ready for use, or what is wrong with it: to find that out can take as long."""
    # 5 MB that a gateway worker without patterns does without.
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    pattern = encoded.decode()
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        return BadPattern(str(error).strip().splitlines()[-1].strip().removeprefix("error: "))


def _compiled(pattern: str) -> SchemaValidator:
    if len(pattern) > PATTERN_CHARS_MAX:
        raise BadPattern(f"a pattern of {len(pattern)} characters, {PATTERN_CHARS_MAX} are allowed")
    try:
        made = _compile(pattern.encode())
    except UnicodeEncodeError:
        raise BadPattern("it has half of a character") from None
    if isinstance(made, BadPattern):
        raise BadPattern(str(made))
    return made


def found(pattern: str, text: str) -> bool:
    """Whether the pattern occurs in the text; raises BadPattern."""
    return _compiled(pattern).isinstance_python(text)


def check_pattern(pattern: str) -> None:
    """Raises BadPattern when the pattern does not compile."""
    _compiled(pattern)
