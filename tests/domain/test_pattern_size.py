"""How large patterns are said to be, held against the engine that compiles them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.pattern_size import size_of
from fairlead.domain.patterns import BadPattern, check_pattern

ENGINE_BYTES_MAX = 10 * 1024 * 1024
"""At which the engine refuses a pattern."""


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("", 0),
        ("abc", 3),
        ("a|b|cd", 4),
        ("^a+b*?c??$", 3),
        (r"\bKD-\d{6}\b", 9),
        (r"(ab){20}", 40),
        (r"((ab){3}c){10}", 70),
        (r"(?:ab){2,}", 4),
        (r"(?P<name>ab){2,5}?", 10),
        (r"(?<name>ab)", 2),
        (r"(?i)ab(?-i:c)(?s-u).", 4),
        (r"[a-z]{3}", 3),
        (r"[]a]{3}", 3),
        (r"[^]a]{3}", 3),
        (r"[a-z&&[^aeiou]]{3}b", 4),
        (r"[\]\\]x", 2),
        (r"a{,3}", 5),
        (r"a{x}", 4),
        (r"\p{Greek}{2}\pL\x41\x{1F600}\u0041", 6),
        (r"\(\{2\}", 4),
        (r"a{ 2 , 3 }", 3),
        ("(((", 0),
        (")))", 0),
        ("[abc", 1),
        ("a\\", 1),
    ],
)
def test_places_are_letters_and_classes_as_often_as_they_are_counted(
    pattern: str, places: int
) -> None:
    assert size_of(pattern).places == places


@given(st.text(alphabet=r"ab(){}[]\|?*+,-12wdspP:<>^$.é", max_size=60))
def test_whatever_it_is_it_is_read_to_its_end(pattern: str) -> None:
    """Good patterns and broken ones."""
    size = size_of(pattern)
    assert size.places >= 0
    assert size.bytes >= 0


@pytest.mark.parametrize(
    "unit",
    ["a", "é", "😀", ".", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"\pL", r"\p{Greek}",
     "[a-z]", "[^a]", "[äöü]", r"[\w-]", r"(?i:k)", r"(?i:\w)", r"(?:ab|cd|ef)", r"(?:\w+\W+)",
     r"(?s:.)", r"\P{Lu}", "[^\\W\\d]", r"(?i:ß)", r"[\p{L}\p{N}]"],
)  # fmt: skip
def test_what_is_said_to_be_small_enough_is_small_enough_for_the_engine(unit: str) -> None:
    """The estimate is on the high side: so many of them as are said to fit do."""
    count = ENGINE_BYTES_MAX // size_of(unit).bytes
    check_pattern(f"(?:{unit}){{{count}}}")


def test_the_engine_has_that_limit() -> None:
    with pytest.raises(BadPattern, match=f"size limit of {ENGINE_BYTES_MAX} bytes"):
        check_pattern(r"(?:\w{100}){100}")
