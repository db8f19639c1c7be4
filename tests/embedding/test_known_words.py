"""Word vectors: meanings of known words, and no blindness for others."""

from pathlib import Path

import numpy as np
import pytest

from fairlead.embedding.kinds import knows_meanings
from fairlead.embedding.known_words import BYTES_MAX, KnownWords, WordTable
from support.word_table import word_table

TEXTS = ["Where is my card?", "my card, where is it", "play some jazz music"]


def alike(one: str, other: str) -> float:
    rows = KnownWords(word_table()).embed([one, other])
    return float(rows[0] @ rows[1])


def test_rows_have_length_one_whatever_the_text() -> None:
    odd = ["", "   ", "\x00", "\ud800", "é" * 50_000, "日本語のカード", "!?", "a" * 300, "##", "\n"]
    embedder = KnownWords(word_table())
    rows = embedder.embed([*TEXTS, *odd])
    assert rows.shape == (len(TEXTS) + len(odd), embedder.dimension)
    assert rows.dtype == np.float32
    assert np.sqrt((rows * rows).sum(1)) == pytest.approx(1.0, abs=1e-5)


def test_texts_that_mean_the_same_are_near_without_a_word_in_common() -> None:
    assert alike("the doctor", "the physician") > alike("the doctor", "the banana") + 0.3
    assert alike("my card was stolen", "robbed my wallet") > 0.7
    assert alike("my card was stolen", "play some jazz music") < 0.4


def test_a_word_that_is_not_known_is_of_its_parts_and_of_its_letters() -> None:
    table = word_table()
    assert table.known("tokenizable") is None
    parts = [table.known(part) for part in ("token", "##iz", "##able")]
    assert np.allclose(table.of_parts("tokenizable"), np.mean(parts, axis=0))
    assert not table.of_parts("日本語").any()
    misspelt = "my cardz was stolen"
    assert 0.99 > alike(misspelt, "my cards was stolen") > alike(misspelt, TEXTS[2]) + 0.1


def test_texts_in_a_script_that_it_does_not_know_are_told_apart() -> None:
    assert alike("Где моя карта", "Где моя новая карта") > 0.6
    assert alike("Где моя карта", "Какая завтра погода") < 0.4
    assert alike("Где моя карта", "Where is my card") < 0.3


def test_a_text_has_the_same_vector_in_any_company_and_each_table_has_its_name() -> None:
    embedder = KnownWords(word_table())
    alone, together = embedder.embed(TEXTS[:1]), embedder.embed(TEXTS)
    assert np.array_equal(alone[0], together[0])
    # references are kept for months: with another table they are learnt anew
    assert embedder.name == KnownWords(word_table()).name
    assert embedder.name != KnownWords(word_table(8)).name
    assert knows_meanings(embedder.name)


def test_a_table_goes_into_a_file_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "words.npz"
    file.write_bytes(word_table().as_bytes())
    again = WordTable.load(file)
    assert (again.digest, len(again)) == (word_table().digest, len(word_table()))


def digest_or_error(file: Path) -> str:
    try:
        return WordTable.load(file).digest
    except ValueError as error:
        return "refused" if "words.npz: cannot be read" in str(error) else str(error)


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    """Wherever a byte is another, and wherever it ends: as it was, or refused."""
    file, whole = tmp_path / "words.npz", word_table().as_bytes()
    with pytest.raises(ValueError, match="cannot be read"):
        WordTable.load(file)
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert digest_or_error(file) in (word_table().digest, "refused"), at
        file.write_bytes(whole[:at])
        with pytest.raises(ValueError, match=r"words\.npz: cannot be read"):
            WordTable.load(file)


def test_a_table_that_would_fill_the_memory_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "words.npz"
    zeros = np.zeros((BYTES_MAX // 1_000, 1_001), np.int8)
    np.savez_compressed(file, words=np.zeros(1, np.uint8), vectors=zeros, scales=zeros[0])
    assert file.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="more than 64,000,000 bytes"):
        WordTable.load(file)


def test_a_table_whose_parts_do_not_go_together_is_an_error() -> None:
    one = np.ones(1, np.float32)
    row = np.ones((1, 4), np.int8)
    with pytest.raises(ValueError, match="2 words: has 1 vectors"):
        WordTable(["a", "b"], row, one)
    with pytest.raises(ValueError, match="1 words: has 2 vectors"):
        WordTable(["a", "a"], np.ones((2, 4), np.int8), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="scales of shape"):
        WordTable(["a"], row, np.ones((1, 1), np.float32))
    for vectors in (np.ones((1, 4), np.float32), np.ones(4, np.int8), np.ones((1, 0), np.int8)):
        with pytest.raises(ValueError, match="has vectors of"):
            WordTable(["a"], vectors, one)  # type: ignore[arg-type]
    for scale in (np.nan, np.inf, 1e30):
        with pytest.raises(ValueError, match="no 32-bit numbers"):
            WordTable(["a"], row, np.float32(scale) * one)
