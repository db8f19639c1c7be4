"""A model that is asked for vectors: once for each text, in a part of the time, not for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

np = pytest.importorskip("numpy")

from fairlead.domain.errors import Unavailable  # noqa: E402
from fairlead.embedding import asked  # noqa: E402
from fairlead.embedding.asked import BATCH, REST_S, AskedModel  # noqa: E402
from fairlead.embedding.asking_time import BUSY_S, WITHIN_S, AskingTime  # noqa: E402
from fairlead.embedding.hashed import HashedNgrams  # noqa: E402
from fairlead.embedding.interface import NotYet, TextsRefused  # noqa: E402
from fairlead.embedding.kinds import knows_meanings  # noqa: E402


class Model:
    """Answers by spelling, and notes what it is asked."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.calls: list[list[str]] = []
        self.takes_s = 0.0
        self.answers = True
        self.dimension = 32
        self.longest = 100

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        self.now += self.takes_s
        if not self.answers:
            raise Unavailable("the embedding model answered 503")
        if not all(len(text) <= self.longest for text in texts):
            raise TextsRefused("the embedding model answered 400", texts)
        rows: list[list[float]] = (3.0 * HashedNgrams(self.dimension).embed(texts)).tolist()
        return rows

    @property
    def asked(self) -> int:
        return sum(map(len, self.calls))


@pytest.fixture
def model() -> Model:
    return Model()


def embedder(model: Model, identity: str = "a", per_day: int = 10_000) -> AskedModel:
    return AskedModel(identity, model, per_day, lambda: model.now, lambda: model.now)


def texts(count: int, first: int = 0) -> list[str]:
    return [f"question number {number}" for number in range(first, first + count)]


def test_texts_are_asked_about_once_in_batches_and_rows_have_length_one(model: Model) -> None:
    made = embedder(model)
    rows = made.embed([*texts(70), *texts(70), "", "  "])
    assert [len(call) for call in model.calls] == [BATCH, BATCH, 6]
    assert rows.shape == (142, 32)
    assert np.abs((rows * rows).sum(1) - 1.0).max() < 1e-3
    assert (rows[:70] == rows[70:140]).all()
    assert (rows[140] == rows[141]).all()
    assert (made.embed(texts(70)) == rows[:70]).all()
    assert model.asked == 70
    assert made.dimension == 32


def test_vectors_of_other_models_have_other_names(model: Model) -> None:
    assert embedder(model).name == embedder(Model()).name != embedder(model, "b").name
    assert knows_meanings(embedder(model).name)
    with pytest.raises(Unavailable, match="not answered yet"):
        _ = embedder(model).dimension


def test_after_a_failure_it_rests_longer_each_time_and_says_why(model: Model) -> None:
    made = embedder(model)
    model.answers = False
    for wait_s in (REST_S, 2.0 * REST_S, 4.0 * REST_S):
        before = len(model.calls)
        for _ in range(3):
            with pytest.raises(Unavailable, match="answered 503"):
                made.embed(texts(3))
        assert len(model.calls) == before + 1
        model.now += wait_s
    model.answers = True
    assert made.embed(texts(3)).shape == (3, 32)


def test_it_is_asked_for_a_part_of_the_time_and_goes_on_where_it_was(model: Model) -> None:
    made = embedder(model)
    model.takes_s = BUSY_S / 4.0
    with pytest.raises(NotYet):
        made.embed(texts(6 * BATCH))
    assert len(model.calls) == 4
    model.now += WITHIN_S
    assert len(made.embed(texts(6 * BATCH))) == 6 * BATCH
    assert model.asked == 6 * BATCH


def test_a_text_that_is_refused_keeps_none_of_the_others_back(model: Model) -> None:
    """Only the model's own word against it alone counts, while it answers about another."""
    made = embedder(model)
    several = [*texts(20), "x" * 101, *texts(20, first=20), "y" * 101]
    for _ in range(2):
        with pytest.raises(TextsRefused) as refused:
            made.embed(several)
        assert refused.value.texts == {"x" * 101, "y" * 101}
        asked_about = model.asked
    assert len(made.embed(texts(40))) == 40
    assert model.asked == asked_about <= 6 * len(several), "it is remembered"


def test_a_model_that_refuses_everything_is_away(model: Model) -> None:
    made = embedder(model)
    model.longest = 0
    with pytest.raises(Unavailable, match="answered 400") as error:
        made.embed(texts(3))
    assert not isinstance(error.value, TextsRefused)
    with pytest.raises(Unavailable, match="answered 400"):
        made.embed(texts(3))
    assert len(model.calls) == 2
    model.longest = 100
    model.now += REST_S
    assert len(made.embed(texts(3))) == 3


def test_the_texts_of_a_day_are_bounded(model: Model) -> None:
    made = embedder(model, per_day=2 * BATCH)
    made.embed(texts(2 * BATCH))
    with pytest.raises(Unavailable, match="goes on at midnight"):
        made.embed(["one more"])
    made.embed(texts(BATCH))  # known
    model.now += asked.DAY_S
    made.embed(["one more"])
    assert model.asked == 2 * BATCH + 1


@pytest.mark.parametrize(
    "answer",
    [[], [[1.0] * 32], [[1.0] * 32, [1.0]], [[1.0] * 3] * 2, [[float("nan")] * 32] * 2, [1.0, 2.0]],
)
def test_an_answer_without_vectors_for_all_is_a_failure(answer: list[list[float]]) -> None:
    made = AskedModel("a", lambda _texts: answer, 100, lambda: 0.0, lambda: 0.0)
    with pytest.raises(Unavailable, match="holds no vector for each"):
        made.embed(texts(2))


def test_vectors_of_another_length_than_before_are_a_failure(model: Model) -> None:
    made = embedder(model)
    made.embed(texts(2))
    model.dimension = 64
    with pytest.raises(Unavailable, match="64 numbers, and before of 32"):
        made.embed(texts(2, first=9))


def test_what_is_remembered_is_bounded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "KNOWN_MAX", 50)
    made = embedder(model)
    made.embed(texts(60))
    made.embed(texts(20, first=40))
    assert (len(made._known), model.asked) == (50, 60)
    made.embed(texts(1))
    assert model.asked == 61


def test_models_share_the_time_and_a_slow_one_leaves_the_others_theirs() -> None:
    """All together are asked no longer than one alone would be; what one overdraws is its own."""
    clock = Model()
    time = AskingTime(lambda: clock.now)
    slow, quick = Model(), Model()
    takes = {id(slow): 1.25 * BUSY_S, id(quick): BUSY_S / 10.0}
    spent = {id(slow): 0.0, id(quick): 0.0}

    def asks(model: Model) -> AskedModel:
        def ask(several: Sequence[str]) -> list[list[float]]:
            clock.now += takes[id(model)]
            spent[id(model)] += takes[id(model)]
            return model(several)

        return AskedModel(
            str(id(model)), ask, 10**9, lambda: clock.now, lambda: clock.now, time
        )  # fmt: skip

    both, begun = (asks(slow), asks(quick)), clock.now
    for look in range(400):
        for made in both:
            with contextlib.suppress(NotYet):
                made.embed(texts(BATCH, first=BATCH * look))
        clock.now += 2.0
    allowed = (clock.now - begun) * BUSY_S / WITHIN_S
    assert 0.7 * allowed < sum(spent.values()) <= allowed + 2.0 * BUSY_S
    assert min(spent.values()) >= 0.3 * allowed, "each has its share"
