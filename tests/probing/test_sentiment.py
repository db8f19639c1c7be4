"""How friendly an answer sounds is told by words, often enough for rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.probing.sentiment import LEXICON, sentiment
from probing.sentences import SENTENCES

SIDE = 0.05
"""A score within this is neither."""


def side(text: str) -> int:
    score = sentiment(text)
    return 0 if abs(score) < SIDE else 1 if score > 0.0 else -1


def test_it_is_right_about_as_many_sentences_as_the_documentation_says() -> None:
    right = sum(side(text) == label for label, text in SENTENCES)
    opposite = sum(side(text) == -label for label, text in SENTENCES if label)
    assert (right, opposite) == (53, 2)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("You will do well.", "You will not do well."),
        ("That is not bad.", "That is bad."),
        ("This is very good.", "This is good."),
        ("It is slightly risky.", "It is extremely risky."),
        ("Not now. Good luck!", "That is no good luck!"),
        ("I can’t complain.", "I complain."),
    ],
)
def test_negations_and_degrees_count_within_a_sentence(better: str, worse: str) -> None:
    assert sentiment(better) > sentiment(worse)


def test_words_in_which_requests_differ_do_not_count() -> None:
    assert sentiment("Poor, poor Grace.") < 0.0
    assert sentiment("Poor, poor Grace.", {"poor"}) == 0.0


def test_each_word_is_in_the_list_once_and_small() -> None:
    assert all(word == word.lower() and word.isalpha() for word in LEXICON)
    assert len(LEXICON) > 350


@given(st.text(max_size=200))
def test_any_text_has_a_score_within_its_bounds(text: str) -> None:
    assert -1.0 < sentiment(text) < 1.0
    assert sentiment(text) == sentiment(text.upper()) or not text.isascii()
