"""The e-detector keeps its rate of false alarms, finds changes, and goes on from its state."""

import json
import math

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.drift.detector import EDetector, tail_bet  # noqa: E402

STAKES, USUAL = (0.05, 0.2, 0.5), 0.1
BETS = np.array([tail_bet(stake, USUAL) for stake in STAKES])


def detector(threshold: float) -> EDetector:
    return EDetector([1.0] * len(STAKES), threshold)


def row_of(*hits: bool) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.array([BETS[:, 0] if hit else BETS[:, 1] for hit in hits]).reshape(-1, len(STAKES))


def run_length(made: EDetector, rate: float, draw: "np.random.Generator", most: int) -> int:
    """Requests to the alarm, or `most` + 1."""
    for n, hit in enumerate(draw.random(most) < rate, 1):
        if made.take(row_of(hit)) is not None:
            return n
    return most + 1


def test_a_bet_is_fair_at_the_probability_it_says() -> None:
    for stake in STAKES:
        won, lost = tail_bet(stake, 0.02)
        assert 0.02 * won + 0.98 * lost == pytest.approx(1.0)


def test_honest_requests_go_on_for_the_threshold_on_average() -> None:
    """E[R] after n requests is n, so the mean run length is at least A; and P(T <= n) <= n / A."""
    draw = np.random.default_rng(1)
    lengths = [run_length(detector(60), USUAL, draw, 4_000) for _ in range(300)]
    error = np.std(lengths) / math.sqrt(len(lengths))
    assert np.mean(lengths) + 3 * error >= 60
    early = sum(length <= 6 for length in lengths)
    assert early <= len(lengths) * 6 / 60


def test_a_change_is_found_soon_and_dated() -> None:
    draw = np.random.default_rng(2)
    delays, dated = [], []
    for _ in range(20):
        made = detector(1e6)
        assert run_length(made, USUAL, draw, 1_000) > 1_000
        delays.append(run_length(made, 0.5, draw, 1_000))
        dated.append(made.changed_at(made.leading()) - 1_000)
    # the bound: ln(1e6) / KL(0.5 || 0.1) = 27 requests
    assert 15 <= np.median(delays) <= 60
    assert abs(np.median(dated)) <= 10


def test_it_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    draw = np.random.default_rng(3)
    one, hits = detector(1e6), draw.random(400) < 0.15
    for hit in hits[:200]:
        one.take(row_of(hit))
    two = detector(1e6)
    two.restore(json.loads(json.dumps(one.state())))
    for hit in hits[200:]:
        one.take(row_of(hit))
        two.take(row_of(hit))
    assert one.state() == two.state()
    assert one.log_evidence == two.log_evidence


def test_many_at_once_are_what_they_are_one_by_one_up_to_the_alarm() -> None:
    hits = np.random.default_rng(4).random(400) < 0.3
    singly, together = detector(1e6), detector(1e6)
    alarm = next(n for n, hit in enumerate(hits) if singly.take(row_of(hit)) is not None)
    assert alarm > 70
    assert together.take(row_of(*hits)) == alarm
    assert together.state() == singly.state()
    assert together.take(row_of()) is None
    assert together.state() == singly.state()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seen", -1),
        ("seen", "many"),
        ("sums", [1.0]),
        ("sums", [1.0, 1.0, math.nan]),
        ("sums", [1.0, 1.0, 0.5]),
        ("sums", [1.0, 1.0, 1e9]),
        ("gains", [0.0, 0.0, math.inf]),
        ("gains", "abc"),
        ("since", [0, 0, 99]),
        ("since", [0, 0, 0.5]),
    ],
)
def test_a_damaged_state_is_an_error(key: str, value: object) -> None:
    made = detector(10)
    with pytest.raises(ValueError, match=r"state|stored"):
        made.restore({**made.state(), key: value})


@pytest.mark.parametrize(
    ("weights", "threshold"),
    [([], 10.0), ([1.0, 0.0], 10.0), ([1.0, math.nan], 10.0), ([1.0], 1.0), ([1.0], math.inf)],
)
def test_nonsense_is_an_error(weights: list[float], threshold: float) -> None:
    with pytest.raises(ValueError, match=r"weights|threshold"):
        EDetector(weights, threshold)


def test_a_reset_forgets_the_evidence_and_not_the_count() -> None:
    made = detector(1e6)
    for _ in range(5):
        made.take(row_of(True))
    made.reset()
    assert (made.seen, made.log_evidence) == (5, 0.0)
