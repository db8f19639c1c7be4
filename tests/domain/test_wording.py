"""One of something is no plural."""

from __future__ import annotations

import pytest

from fairlead.domain.wording import count_of


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 workers"), (1, "1 worker"), (2, "2 workers"), (1_200, "1,200 workers")],
)
def test_a_number_of_things(number: int, words: str) -> None:
    assert count_of(number, "worker") == words
