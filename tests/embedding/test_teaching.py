"""A table that is fitted to what a larger model says of a service's own texts."""

from __future__ import annotations

import random

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("tokenizers")

from fairlead.embedding import teaching  # noqa: E402
from fairlead.embedding.kinds import asks_model, is_fitted, knows_meanings  # noqa: E402
from fairlead.embedding.static import StaticTable, tokenizer_from  # noqa: E402
from fairlead.embedding.teaching import taught  # noqa: E402
from support import small_bert  # noqa: E402


def texts(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    made = [" ".join(f"word{dice.randrange(60)}" for _ in range(6)) for _ in range(count)]
    return list(dict.fromkeys(made))


def nothing(_done: int, _of: int) -> None:
    pass


def test_its_sums_come_near_to_what_the_model_says_also_of_other_texts() -> None:
    teacher, known, others = small_bert.sentence_teacher(), texts(500, 1), texts(100, 2)
    said: list[tuple[int, int]] = []
    table = taught(teacher, known, lambda done, of: said.append((done, of)))
    assert said[-1] == (len(known), len(known))
    assert [done for done, _ in said] == sorted({done for done, _ in said})
    wanted = teaching._vectors(teacher, others, nothing)
    begin = StaticTable(
        teacher.model.token_vectors.astype(np.float16), tokenizer_from(teacher.tokenizer)
    )
    alike = float((table.embed(others) * wanted).sum(1).mean())
    at_first = float((begin.embed(others) * wanted).sum(1).mean())
    assert alike > at_first + 0.1
    assert alike > 0.8


def test_texts_of_any_length_have_the_row_that_the_model_gives_each_alone() -> None:
    teacher = small_bert.sentence_teacher()
    some = ["word1", "word1 word2 word3", "a word5", " ".join(["word7"] * 10)]
    rows = teaching._vectors(teacher, some * 20, nothing)
    for at, text in enumerate(some * 20):
        (alone,) = teaching._vectors(teacher, [text], nothing)
        assert rows[at] == pytest.approx(alone, abs=1e-5)


def test_it_is_known_by_its_name_as_one_that_needs_no_model() -> None:
    name = taught(small_bert.sentence_teacher(), texts(300, 3), nothing).name
    assert is_fitted(name)
    assert knows_meanings(name)
    assert not asks_model(name)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 200"):
        taught(small_bert.sentence_teacher(), texts(50, 4), nothing)
