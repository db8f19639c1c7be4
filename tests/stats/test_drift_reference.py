"""The reference: the same for the same seed, honest about what it knows, strict about garbage."""

from dataclasses import fields, replace

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.drift.dependence import dependence  # noqa: E402
from fairlead.stats.drift.novelty import LEVELS, Novelty  # noqa: E402
from fairlead.stats.drift.reference import Reference, fit, upper_share  # noqa: E402
from fairlead.stats.drift.stored import from_bytes, to_bytes  # noqa: E402
from support.questions import Questions  # noqa: E402


@pytest.fixture(scope="module")
def reference() -> Reference:
    return fit(Questions(1).usual(2_000))


def test_the_same_prompts_and_seed_give_the_same_reference(reference: Reference) -> None:
    assert to_bytes(fit(Questions(1).usual(2_000))) == to_bytes(reference)
    assert to_bytes(fit(Questions(1).usual(2_000), seed=1)) != to_bytes(reference)


def test_it_comes_back_from_its_bytes_as_it_was(reference: Reference) -> None:
    again = from_bytes(to_bytes(reference))
    for field in fields(Reference):
        assert np.array_equal(getattr(again, field.name), getattr(reference, field.name))


def test_p_values_of_honest_requests_are_at_most_as_often_small_as_said(
    reference: Reference,
) -> None:
    novelty = Novelty(reference, tolerance=1.0)
    counts = novelty.counts(reference.novelty_scores(_unit(Questions(2).usual(20_000))))
    shares = novelty.hits(counts).mean(1)
    assert (shares <= np.array(novelty.honest) * 1.05 + 1e-4).all()
    # and not much less often: the bets would be weak
    assert (shares[:, -1] >= LEVELS[-1] / 1.5).all()


def test_calibration_prompts_were_never_used_to_fit(reference: Reference) -> None:
    """What was fitted to lies nearer to the centroids than what is new: it may not calibrate."""
    vectors = Questions(1).usual(2_000)
    fitting = np.sort(np.random.default_rng(0).permutation(2_000)[:1_000])
    used = reference.novelty_scores(_unit(vectors[fitting]))[0]
    fresh = reference.novelty_scores(_unit(Questions(3).usual(2_000)))[0]
    assert np.median(used) < np.median(fresh) * 0.97
    assert np.median(reference.scores[0]) == pytest.approx(np.median(fresh), rel=0.05)


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_too_few_prompts_are_an_error() -> None:
    with pytest.raises(ValueError, match="999 reference prompts: needs at least 1000"):
        fit(Questions(1).usual(999))


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 0.0, 1e200])
def test_a_row_that_is_no_vector_is_named(bad: float) -> None:
    vectors = Questions(1).usual(1_200)
    vectors[17] = bad
    with pytest.raises(ValueError, match="vector 17"):
        fit(vectors)


def test_prompts_that_are_all_the_same_are_an_error() -> None:
    with pytest.raises(ValueError, match="all vectors are the same"):
        fit(np.ones((1_200, 8)))


def test_few_different_prompts_are_fitted_all_the_same() -> None:
    """Templates: three prompts asked over and over."""
    made = fit(np.eye(8)[np.random.default_rng(0).integers(3, size=1_500)])
    assert len(made.cells) <= 3 + 1
    assert np.isfinite(made.novelty_scores(np.eye(8, dtype=np.float32))).all()


def test_an_unknown_share_is_taken_at_its_upper_limit() -> None:
    assert upper_share(0, 1_000) == pytest.approx(1 - 1e-3 ** (1 / 1_000))
    assert upper_share(50, 1_000) > 0.05
    assert upper_share(50, 1_000, phi=4.0) > upper_share(50, 1_000)
    assert upper_share(1_000, 1_000) == 1.0


def test_shuffled_requests_depend_on_nothing_and_bursts_do() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(20, size=6_000)
    assert dependence(labels, draw) == (1.0, 0)
    for start in range(0, 6_000, 100):
        labels[start : start + 50] = draw.integers(20)
    found = dependence(labels, draw)
    # half of 100 requests are the same one: 1 + 99 * 0.25; the worst of 20 labels has more
    assert 25 <= found.phi <= 120
    assert 50 <= found.length <= 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rest", -1.0),
        ("mean", np.zeros(3, np.float32)),
        ("scores", np.array([[2, 1], [1, 2]], np.float32)),
        ("cells", np.full((4, 32), np.nan, np.float32)),
        ("deviations", np.zeros(32, np.float32)),
        ("cell_counts", np.array([-1])),
    ],
)
def test_a_damaged_reference_is_an_error(reference: Reference, name: str, value: object) -> None:
    with pytest.raises(ValueError, match="stored reference"):
        from_bytes(to_bytes(replace(reference, **{name: value})))


@pytest.mark.parametrize("cut", [0, 10, 1_000, -5])
def test_half_a_file_is_an_error(reference: Reference, cut: int) -> None:
    with pytest.raises(ValueError, match="stored reference"):
        from_bytes(to_bytes(reference)[:cut])
