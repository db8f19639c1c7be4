"""A static table: fitted to a teacher, kept in a folder, and the same when it comes back."""

import random
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
tokenizers = pytest.importorskip("tokenizers")

from fairlead.embedding.fitting import fit_table  # noqa: E402
from fairlead.embedding.static import StaticTable, tokenizer_from  # noqa: E402

TOPICS = {
    "card": "card lost arrived new replace order",
    "pin": "pin code change forgot reset wrong",
    "top": "top up money account failed pending",
}
COMMON = "my is the please how can"
UNSEEN = "weather jazz pizza"


def tokenizer() -> Any:
    """One token per word."""
    names = ["[UNK]", *" ".join([*TOPICS.values(), COMMON, UNSEEN]).split()]
    model = tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, "[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made


def prompts(count: int, seed: int) -> tuple[list[str], Any]:
    """Questions with their topic's number; the teacher's vector says the topic and nothing else."""
    draw = random.Random(seed)
    texts, topics = [], []
    for _ in range(count):
        topic = draw.randrange(len(TOPICS))
        own = draw.sample(list(TOPICS.values())[topic].split(), 2)
        texts.append(" ".join([*draw.sample(COMMON.split(), 3), *own]))
        topics.append(topic)
    return texts, np.array(topics)


@pytest.fixture(scope="module")
def table() -> StaticTable:
    texts, topics = prompts(600, 1)
    return fit_table(tokenizer(), texts, np.eye(16, dtype=np.float32)[topics])


def test_it_learns_what_the_teacher_says(table: StaticTable) -> None:
    texts, topics = prompts(200, 2)
    alike = table.embed(texts) @ np.eye(16, dtype=np.float32)[:3].T
    assert (alike.argmax(1) == topics).mean() >= 0.98
    assert np.median(alike.max(1)) >= 0.9


def test_a_tokenizer_that_pads_is_fitted_as_it_is_used() -> None:
    """As many files of tokenizers say it, such as MiniLM's."""
    texts, topics = prompts(600, 1)
    teacher = np.eye(16, dtype=np.float32)[topics]
    padding = tokenizer()
    padding.enable_padding(pad_id=1, pad_token="my", length=64)
    padding.enable_truncation(64)
    assert fit_table(padding, texts, teacher).name == fit_table(tokenizer(), texts, teacher).name


def test_what_no_prompt_has_stays_far_from_what_they_are(table: StaticTable) -> None:
    new = table.embed(["weather pizza", "jazz"])
    assert (new @ np.eye(16, dtype=np.float32)[:3].T).max() < 0.75


def test_it_is_the_same_for_the_same_seed() -> None:
    texts, topics = prompts(250, 1)
    teacher = np.eye(16, dtype=np.float32)[topics]
    one, two, other = (fit_table(tokenizer(), texts, teacher, seed=s) for s in (1, 1, 2))
    assert one.name == two.name != other.name


def test_it_comes_back_from_its_folder_as_it_was(table: StaticTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table")
    again = StaticTable.load(tmp_path / "table")
    texts = [*prompts(20, 3)[0], "", "unheard of words", "card " * 5_000]
    assert again.name == table.name
    assert again.dimension == 16
    rows = again.embed(texts)
    assert np.array_equal(rows, table.embed(texts))
    assert np.sqrt((rows * rows).sum(1)) == pytest.approx(1.0, abs=1e-5)
    assert again.embed([]).shape == (0, 16)


def test_a_folder_without_a_table_is_an_error(table: StaticTable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no table.npy"):
        StaticTable.load(tmp_path)
    table.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json: cannot be read"):
        StaticTable.load(tmp_path)
    table.save(tmp_path)
    (tmp_path / "table.npy").write_bytes((tmp_path / "table.npy").read_bytes()[:90])
    with pytest.raises(ValueError, match="cannot be read"):
        StaticTable.load(tmp_path)
    np.save(tmp_path / "table.npy", np.zeros((100, 16), np.int64))
    with pytest.raises(ValueError, match="must be float16 or float32"):
        StaticTable.load(tmp_path)


def test_tables_that_do_not_fit_the_tokenizer_are_errors() -> None:
    with pytest.raises(ValueError, match="needs a row for each"):
        StaticTable(np.zeros((3, 16), np.float32), tokenizer())
    with pytest.raises(ValueError, match="not finite"):
        StaticTable(np.full((100, 16), np.nan, np.float32), tokenizer())


def test_teachers_that_do_not_fit_the_prompts_are_errors() -> None:
    texts, topics = prompts(250, 1)
    teacher = np.eye(16, dtype=np.float32)[topics]
    with pytest.raises(ValueError, match="199 prompts"):
        fit_table(tokenizer(), texts[:199], teacher[:199])
    with pytest.raises(ValueError, match="needs 250 rows"):
        fit_table(tokenizer(), texts, teacher[:-1])
    with pytest.raises(ValueError, match="none zero"):
        fit_table(tokenizer(), texts, teacher * 0)
    with pytest.raises(ValueError, match="token vectors"):
        fit_table(tokenizer(), texts, teacher, np.zeros((5, 16), np.float32))


def test_a_tokenizer_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        tokenizer_from("not json")
