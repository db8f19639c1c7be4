"""The packaged word vectors: meanings of known words, and no blindness for others."""

from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from fairlead.embedding.known_words import PACKAGED, KnownWords, WordTable, packaged  # noqa: E402

TEXTS = ["Where is my card?", "my card, where is it", "play some jazz music"]


def alike(one: str, other: str) -> float:
    rows = KnownWords().embed([one, other])
    return float(rows[0] @ rows[1])


def test_rows_have_length_one_whatever_the_text() -> None:
    odd = ["", "   ", "\x00", "\ud800", "é" * 50_000, "日本語のカード", "!?", "a" * 300, "##", "\n"]
    rows = KnownWords().embed([*TEXTS, *odd])
    assert rows.shape == (len(TEXTS) + len(odd), KnownWords().dimension)
    assert rows.dtype == np.float32
    assert np.sqrt((rows * rows).sum(1)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("the doctor", "the physician", "the banana"),
        ("my card was stolen", "somebody robbed my wallet", "how long does a transfer take"),
        ("what is the exchange rate", "currency conversion", "freeze my account"),
    ],
)
def test_texts_that_mean_the_same_are_near_without_a_word_in_common(
    text: str, near: str, far: str
) -> None:
    assert alike(text, near) > alike(text, far) + 0.1


def test_a_word_that_is_not_known_is_of_its_parts_and_of_its_letters() -> None:
    table = packaged()
    assert table.known("tokenizable") is None
    assert np.linalg.norm(table.of_parts("tokenizable")) > 0
    misspelt = "my cardz were stolen"
    assert 0.99 > alike(misspelt, "my cards were stolen") > alike(misspelt, TEXTS[2]) + 0.1


def test_texts_in_a_script_that_it_does_not_know_are_told_apart() -> None:
    assert alike("Где моя карта", "Где моя новая карта") > 0.6
    assert alike("Где моя карта", "Какая завтра погода") < 0.4
    assert alike("Где моя карта", "Where is my card") < 0.3


def test_a_text_has_the_same_vector_in_any_company_and_for_ever() -> None:
    alone, together = KnownWords().embed(TEXTS[:1]), KnownWords().embed(TEXTS)
    assert np.array_equal(alone[0], together[0])
    # references are kept for months: another table has another name, and they are learnt anew
    assert KnownWords().name == NAME
    assert PACKAGED.stat().st_size < 6_000_000


NAME = "words-288-808771dfc433"


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "words.npz"
    file.write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"words\.npz: cannot be read"):
        WordTable.load(file)
    file.write_bytes(PACKAGED.read_bytes()[:10_000])
    with pytest.raises(ValueError, match=r"words\.npz: cannot be read"):
        WordTable.load(file)
    with pytest.raises(ValueError, match="cannot be read"):
        WordTable.load(tmp_path / "none.npz")


def test_a_table_whose_parts_do_not_go_together_is_an_error() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="2 words: has vectors of shape"):
        WordTable(["a", "b"], np.ones((1, 4), np.int8), one)
    with pytest.raises(ValueError, match="not finite"):
        WordTable(["a"], np.ones((1, 4), np.int8), one * np.nan)
