"""What is said of a defect has its kind and place, and nothing of what was worked on."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.domain.decoding import decode_json
from fairlead.domain.defects import FRAMES_MAX, defect, trail


def raised() -> Exception:
    try:
        try:
            raise KeyError("my card number is 4111")
        except KeyError as error:
            raise ValueError("the prompt was: my card") from error
    except ValueError as error:
        return error


def test_it_says_the_kind_and_the_place_in_our_own_code() -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        decode_json(b"{", dict)
    said, told = defect(caught.value), trail(caught.value)
    assert said.startswith("a defect: DecodeError at fairlead/domain/decoding.py:")
    assert told.startswith("DecodeError < fairlead/domain/decoding.py:")
    assert " in decode_json < " in told


def test_it_says_no_word_of_the_exception_or_of_what_it_came_of() -> None:
    told = trail(raised())
    assert told.startswith("ValueError < ")
    assert told.endswith("; after KeyError")
    assert "card" not in f"{told}{defect(raised())}"


def test_a_defect_that_was_never_raised_has_no_place() -> None:
    assert defect(ValueError("x")) == "a defect: ValueError"
    assert trail(ValueError("x")) == "ValueError"


def test_a_deep_trail_is_bounded() -> None:
    with pytest.raises(RecursionError) as caught:
        _deep(100)
    assert trail(caught.value).count(" < ") == FRAMES_MAX


def _deep(more: int) -> None:
    if not more:
        raise RecursionError
    _deep(more - 1)
