"""Hashed n-grams: the same text has the same vector, and texts that look alike are near."""

import pytest

np = pytest.importorskip("numpy")

from fairlead.embedding import word_sums  # noqa: E402
from fairlead.embedding.hashed import HashedNgrams  # noqa: E402
from fairlead.embedding.interface import LETTERS_MAX  # noqa: E402
from fairlead.embedding.word_sums import words  # noqa: E402

TEXTS = ["Where is my card?", "my card, where is it", "play some jazz music"]


def test_rows_have_length_one_whatever_the_text() -> None:
    odd = ["", "   ", "\x00", "\ud800", "é" * 50_000, "日本語のカード", "!?", "a" * 300]
    rows = HashedNgrams(64).embed([*TEXTS, *odd])
    assert rows.shape == (len(TEXTS) + len(odd), 64)
    assert rows.dtype == np.float32
    assert np.sqrt((rows * rows).sum(1)) == pytest.approx(1.0, abs=1e-5)


def test_texts_that_look_alike_are_near_also_when_misspelt() -> None:
    rows = HashedNgrams().embed([*TEXTS, "wheer is my crad?"])
    alike = rows @ rows.T
    assert alike[0, 1] > 0.7
    assert alike[0, 2] < 0.3
    assert alike[0, 3] > alike[0, 2] + 0.2


def test_common_words_weigh_less_once_it_knows_them() -> None:
    fitted = HashedNgrams.fitted(["my card is lost", "my pin is lost", "my top up is lost"] * 9)
    plain = HashedNgrams()
    pair = ["my card is", "my pin is"]
    one, two = (each.embed(pair) for each in (plain, fitted))
    assert float(two[0] @ two[1]) < float(one[0] @ one[1]) - 0.2
    assert plain.name != fitted.name


def test_a_text_has_the_same_vector_in_any_company_and_process() -> None:
    alone, together = HashedNgrams(64).embed(TEXTS[:1]), HashedNgrams(64).embed(TEXTS)
    assert np.array_equal(alone[0], together[0])
    # a value that may never change: references are kept for months
    assert np.flatnonzero(HashedNgrams(16).embed(["card"])[0]).tolist() == PLACES


PLACES = [2, 5, 6, 8, 9, 10, 11, 14]


def test_what_a_text_costs_is_bounded() -> None:
    assert len(words("a " * LETTERS_MAX)) == LETTERS_MAX // 2
    assert len(words("a" * 1_000)[0]) == 64
    assert HashedNgrams(32).embed([]).shape == (0, 32)


@pytest.mark.parametrize("dimension", [0, 8, 100_000])
def test_a_dimension_out_of_range_is_an_error(dimension: int) -> None:
    with pytest.raises(ValueError, match="dimension"):
        HashedNgrams(dimension)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_an_error_that_names_the_word(share: float) -> None:
    with pytest.raises(ValueError, match="'card'"):
        HashedNgrams(32, {"card": share})


def test_a_text_has_the_same_vector_in_any_batch_and_after_words_were_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [f"word{n} other{n} my card" for n in range(300)]
    whole = HashedNgrams(64).embed(texts)
    monkeypatch.setattr(word_sums, "_CACHE_MAX", 50)
    small = HashedNgrams(64)
    assert np.array_equal(np.concatenate([small.embed([text]) for text in texts]), whole)
    assert np.array_equal(small.embed(texts), whole)
