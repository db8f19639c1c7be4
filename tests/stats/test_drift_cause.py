"""What an alarm says of its cause."""

from collections import Counter

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.drift.cause import Recent, grown, is_unlike, new_share, novel  # noqa: E402
from fairlead.stats.drift.topics import telling_words, topics  # noqa: E402
from support.questions import TOPICS, Questions  # noqa: E402


def test_the_bound_of_new_content_is_too_high_in_few_cases() -> None:
    """At a confidence of 95 % or better; and near the truth where there is much evidence."""
    draw = np.random.default_rng(1)
    levels, honest = [0.01, 0.05], [0.01, 0.05]
    bounds = []
    for _ in range(200):
        p_values = draw.random((2, 600))
        p_values[:, draw.random(600) < 0.2] = 0.0
        bounds.append(new_share(p_values, levels, honest, starts=600))
    assert sum(bound > 0.2 for bound in bounds) <= 10
    assert np.median(bounds) >= 0.1


def test_the_bound_holds_for_the_start_that_the_data_favour() -> None:
    """The highest bound of all starts; not corrected for their number, it is too high too often."""
    draw = np.random.default_rng(3)
    levels, honest, runs = [0.01, 0.05], [0.01, 0.05], 80
    starts = [600 - length for length in (10, 20, 30, 45, 70, 100, 150, 220, 330, 480, 600)]
    corrected, plain = 0, 0
    for _ in range(runs):
        p_values = draw.random((2, 600))
        p_values[:, draw.random(600) < 0.2] = 0.0
        since = [p_values[:, start:] for start in starts]
        corrected += max(new_share(each, levels, honest, len(starts)) for each in since) > 0.2
        plain += max(new_share(each, levels, honest, starts=1) for each in since) > 0.2
    assert corrected <= 0.05 * runs < plain


def test_there_is_no_new_content_where_nothing_is_unusual() -> None:
    p_values = np.random.default_rng(2).random((2, 500))
    assert new_share(p_values, [0.01, 0.05], [0.01, 0.05], starts=500) == 0.0
    assert new_share(p_values[:, :0], [0.01, 0.05], [0.01, 0.05], starts=1) == 0.0


def test_the_cluster_that_grew_comes_first() -> None:
    cells = np.array([0] * 40 + [1] * 20 + [2] * 40)
    found = grown(Recent(100, np.zeros((2, 100)), cells), np.array([0.5, 0.05, 0.45]))
    assert [each.cell for each in found] == [1]
    assert (found[0].reference_share, found[0].share) == (0.05, 0.2)
    assert found[0].requests == tuple(range(140, 160))


def test_a_cluster_that_the_reference_hardly_has_can_grow() -> None:
    found = grown(Recent(0, np.zeros((2, 10)), np.full(10, 1)), np.array([1.0, 0.0]))
    assert found[0].cell == 1


def test_the_least_usual_requests_come_first() -> None:
    p_values = np.array([[0.005, 0.9, 0.0, 0.03], [0.008, 0.9, 0.7, 0.003]])
    assert novel(Recent(10, p_values, np.zeros(4, np.int64)), 0.02) == (12, 13, 10)


def test_of_what_is_shown_as_new_most_is_new() -> None:
    draw = np.random.default_rng(4)
    p_values = draw.random((2, 1_000))
    p_values[:, :15] = draw.random((2, 15)) * 0.002
    shown = novel(Recent(0, p_values, np.zeros(1_000, np.int64)), 0.02)
    assert 15 <= len(shown) <= 40
    assert sum(number < 15 for number in shown) == 15
    few = novel(Recent(0, draw.random((2, 1_000)), np.zeros(1_000, np.int64)), 0.02)
    assert 5 <= len(few) <= 10  # where nothing is new, some are shown


def test_what_grew_by_other_things_than_were_in_it_is_new() -> None:
    draw = np.random.default_rng(5)

    def recent(count: int, power: float) -> Recent:
        cells = np.repeat([0, 1], count)
        return Recent(0, draw.random((2, 2 * count)) ** power, cells)

    found = [is_unlike(recent(60, 1.0), recent(60, power), 0) for power in [1.0] * 200 + [3.0] * 50]
    assert sum(found[:200]) <= 8
    assert sum(found[200:]) >= 49
    assert not is_unlike(recent(9, 1.0), recent(60, 9.0), 0)  # too few to tell
    same = Recent(0, np.full((2, 40), 0.3), np.zeros(40, np.int64))
    assert not is_unlike(same, same, 0)


def test_new_topics_are_grouped_and_the_typical_ones_come_first() -> None:
    vectors = Questions(3).of([TOPICS] * 12 + [TOPICS + 1] * 6)
    found = topics(vectors, count=2)
    assert [sorted(topic.rows) for topic in found] == [list(range(12)), list(range(12, 18))]
    unit = vectors[:12] / np.linalg.norm(vectors[:12], axis=1, keepdims=True)
    apart = ((unit - unit.mean(0)) ** 2).sum(1)[list(found[0].rows)]
    assert (np.diff(apart) >= -1e-6).all()
    assert topics(vectors[:0]) == ()


def test_the_least_usual_topic_comes_first_and_one_of_two_requests_last() -> None:
    vectors = Questions(3).of([TOPICS + 2] * 2 + [TOPICS + 1] * 4 + [TOPICS] * 12)
    found = [sorted(topic.rows) for topic in topics(vectors, count=3)]
    assert found == [[2, 3, 4, 5], list(range(6, 18)), [0, 1]]


def test_words_that_are_usual_do_not_tell() -> None:
    usual = Counter({"my": 500, "card": 300, "is": 400})
    theirs = [["my", "routing", "number"], ["routing", "number", "is"], ["my", "routing"]]
    assert telling_words(theirs, usual, 2) == ("routing", "number")
