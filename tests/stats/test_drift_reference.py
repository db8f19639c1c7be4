"""The reference: the same for the same seed, honest about what it knows, strict about garbage."""

from dataclasses import fields, replace

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.drift.dependence import BLOCKS, BLOCKS_MIN, dependence  # noqa: E402
from fairlead.stats.drift.mix import (  # noqa: E402
    SHARE_TOLERANCE,
    WITNESS_TOLERANCE,
    Cells,
    Witness,
)
from fairlead.stats.drift.novelty import LEVELS, Novelty  # noqa: E402
from fairlead.stats.drift.reference import (  # noqa: E402
    DOUBT,
    SPLIT,
    SURE,
    Reference,
    fit,
    halves,
    upper_limits,
)
from fairlead.stats.drift.stored import from_bytes, to_bytes  # noqa: E402
from fairlead.stats.special import beta_quantile  # noqa: E402
from fairlead.stats.variance import chi_squared_quantile, upper_factor  # noqa: E402
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
    assert again.digest == reference.digest


def test_its_centres_and_directions_are_stored_in_two_bytes_a_number(reference: Reference) -> None:
    numbers = reference.centroids.size + reference.cells.size + reference.directions.size
    others = 4 * (reference.scores.size + reference.deviations.size + 64) + 8 * 200 + 4_000
    assert len(to_bytes(reference)) <= 2 * numbers + others
    # what float16 does not hold is stored as it is
    fine = replace(reference, mean=reference.mean + np.float32(1e-6))
    assert np.array_equal(from_bytes(to_bytes(fine)).mean, fine.mean)


def test_p_values_of_honest_requests_are_at_most_as_often_small_as_said(
    reference: Reference,
) -> None:
    novelty = Novelty(reference, tolerance=1.0)
    p_values = novelty.p_values(reference.novelty_scores(_unit(Questions(2).usual(20_000))))
    shares = novelty.hits(p_values).mean(1)
    assert (shares <= np.array(novelty.honest) * 1.05 + 1e-4).all()
    # and not much less often: the bets would be weak
    assert (shares[:, -1] >= LEVELS[-1] / 1.5).all()


def test_calibration_prompts_were_never_used_to_fit(reference: Reference) -> None:
    """What was fitted to lies nearer to the centroids than what is new: it may not calibrate."""
    vectors = Questions(1).usual(2_000)
    fitting, _ = halves(2_000)
    used = reference.novelty_scores(_unit(vectors[fitting]))[0]
    fresh = reference.novelty_scores(_unit(Questions(3).usual(2_000)))[0]
    assert np.median(used) < np.median(fresh) * 0.97
    assert np.median(reference.scores[0]) == pytest.approx(np.median(fresh), rel=0.05)


@pytest.mark.parametrize("count", [1_000, 1_003, 24_000])
def test_the_halves_are_blocks_longer_than_what_depends(count: int) -> None:
    fitting, held = halves(count)
    assert sorted([*fitting, *held]) == list(range(count))
    assert abs(len(fitting) - len(held)) <= SPLIT
    ends = np.flatnonzero(np.diff(fitting) > 1) + 1
    assert len(ends) == SPLIT / 2 - 1
    shortest = min(len(block) for block in np.split(fitting, ends))
    learnt = [length for length in BLOCKS if count // length >= BLOCKS_MIN]
    assert shortest > max(learnt)


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


@pytest.mark.parametrize("phi", [1.0, 4.0])
@pytest.mark.parametrize("count", [0, 3, 20, 300])
def test_an_unknown_share_is_taken_at_its_upper_limit(count: int, phi: float) -> None:
    exact = beta_quantile(1.0 - DOUBT, count / phi + 1.0, (1_000 - count) / phi)
    (limit,) = upper_limits(np.array([float(count)]), 1_000, phi)
    assert 0.97 * exact <= limit <= 1.1 * exact
    assert upper_limits(np.array([1_000.0]), 1_000)[0] == 1.0


def test_a_rank_is_taken_at_its_upper_limit_also_where_requests_depend() -> None:
    for rank, phi in ((1, 1.0), (5, 1.0), (40, 4.0), (1, 50.0)):
        exact = beta_quantile(1.0 - DOUBT, rank / phi, (1_001 - rank) / phi)
        (limit,) = upper_limits(np.array([float(rank)]), 1_001, phi, least=0.0)
        assert limit >= 0.97 * exact
        assert limit <= 1.1 * exact or rank < phi


def test_shares_and_tails_are_taken_at_their_upper_limits(reference: Reference) -> None:
    cells, novelty = Cells(reference, tolerance=1.0), Novelty(reference, tolerance=1.0)
    counts = reference.cell_counts
    limits = upper_limits(counts.astype(float), int(counts.sum()))
    assert cells.honest == pytest.approx(limits + SHARE_TOLERANCE)
    assert (novelty.honest > novelty.levels).all()
    # ten times as many that are the same say it more surely
    before = cells.honest.copy()
    cells.learn(counts * 10)
    assert (cells.honest < before).all()
    wide = novelty.honest.copy()
    novelty.learn(np.sort(np.repeat(reference.scores, 10, axis=1), axis=1))
    assert novelty.honest[-1] < wide[-1]


def test_shares_and_centre_are_of_prompts_that_fitted_nothing(reference: Reference) -> None:
    assert reference.cell_counts.sum() == reference.scores.shape[1] == 1_000


def test_the_centres_error_may_point_to_where_the_difference_does(reference: Reference) -> None:
    size, total = reference.centre.size, int(reference.cell_counts.sum())
    error = chi_squared_quantile(size, 1.0 - SURE) / total
    assert Witness(reference).slack == pytest.approx(WITNESS_TOLERANCE + error**0.5)


@pytest.mark.parametrize(
    ("freedom", "level", "expected"),
    [(32, 0.999, 62.487), (32, 0.5, 31.336), (10, 0.1, 4.865), (1, 0.99, 6.635)],
)
def test_quantiles_of_chi_squared(freedom: int, level: float, expected: float) -> None:
    """By printed tables."""
    assert chi_squared_quantile(freedom, level) == pytest.approx(expected, rel=0.02)
    assert upper_factor(10, 0.9) == pytest.approx(10 / 4.865, rel=0.02)


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


def test_one_label_that_bursts_among_many_is_seen() -> None:
    """All labels together hardly show it: one of 64 comes twice as often in every other block."""
    draw = np.random.default_rng(2)
    labels = draw.integers(64, size=10_000)
    assert dependence(labels, draw) == (1.0, 0)
    for start in range(0, 10_000, 1_000):
        calm, busy = labels[start : start + 500], labels[start + 500 : start + 1_000]
        calm[calm == 0] = draw.integers(1, 64, size=int((calm == 0).sum()))
        busy[draw.random(500) < 1 / 64] = 0
    found = dependence(labels, draw)
    assert found.phi >= 8
    assert found.length >= 200


def test_independent_labels_of_any_shares_depend_on_nothing() -> None:
    draw = np.random.default_rng(3)
    for _ in range(12):
        shares = draw.exponential(size=64) ** 2
        labels = draw.choice(64, size=3_000, p=shares / shares.sum())
        assert dependence(labels, draw) == (1.0, 0)


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
