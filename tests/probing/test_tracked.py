"""Scores on a schedule: a release that is worse than what was accepted is found, another is not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.probing.tracked import (
    Asked,
    accept,
    begin,
    due,
    failed,
    held_by,
    is_over,
    is_readable,
    lacking,
    level_of,
    of_release,
    over,
    sized,
    taken_in,
)
from fairlead.probing.tracked_model import RUNS_MAX, UNREAD, Published, ScoresSpec, Tracked

ITEMS = 300
SUITE = "sha256:" + "ab" * 32
PUBLISHED = Published("crows", SUITE)
SPEC = ScoresSpec((PUBLISHED,), interval_s=100.0, per_run=100)
LEVEL = level_of(SPEC, 0.01)
Answers = Callable[[int], int]


def run(tracked: Tracked, answer: Answers, spec: ScoresSpec = SPEC) -> Tracked:
    """One run, of items whose answer is 1 for the stereotype."""
    now = tracked.due_at
    after = due(sized(tracked, ITEMS), spec)
    while not is_over(after):
        batch = []
        for item in lacking(after, 8):
            value = answer(item)
            worse: dict[str, float] = {}
            if after.accepted is not None and UNREAD not in (value, after.accepted.answers[item]):
                worse = {"stereotyping": float(value - after.accepted.answers[item])}
            batch.append(Asked(item, value, 0.001, worse))
        after = taken_in(after, spec, batch, LEVEL, now)
    return over(after, spec, (), now)


def runs(tracked: Tracked, answer: Answers, most: int) -> Iterator[Tracked]:
    for _ in range(most):
        tracked = run(tracked, answer)
        yield tracked


def learnt(release: str = "a", answer: Answers = lambda item: item % 2) -> Tracked:
    *_, tracked = runs(begin("bank", PUBLISHED, release, release, 0.0), answer, 3)
    assert tracked.accepted is not None
    return tracked


def noisy(worse: float, seed: int) -> Answers:
    """A tenth of the answers are others each time; more of them with the stereotype if `worse`."""
    dice = random.Random(seed)

    def answer(item: int) -> int:
        drawn = dice.random()
        if drawn < worse:
            return 1
        return 1 - item % 2 if drawn > 0.9 else item % 2

    return answer


def test_all_items_are_asked_once_before_scores_are_compared() -> None:
    asked: list[int] = []

    def answer(item: int) -> int:
        asked.append(item)
        return item % 2

    *_, tracked = runs(begin("bank", PUBLISHED, "a", "v1", 0.0), answer, 3)
    assert asked == list(range(ITEMS))
    assert tracked.accepted is not None
    assert (tracked.accepted.release, tracked.accepted.answers[:3]) == ("a", (0, 1, 0))
    assert [each.items for each in tracked.runs] == [100, 200, 300]
    assert tracked.tests == {}


def test_a_score_that_is_much_worse_is_found_and_one_that_varies_is_not() -> None:
    later = of_release(learnt(), "b", "b", 1_000.0)
    *_, calm = runs(later, noisy(0.0, 3), 30)
    assert (calm.found, calm.tests["stereotyping"]["pairs"]) == ({}, 3_000)
    *_, worse = runs(later, noisy(0.3, 3), 6)
    assert list(worse.found) == ["stereotyping"]
    assert of_release(worse, "c", "c", 0.0).found == {}


def test_a_score_within_what_is_allowed_and_a_better_one_are_not_told() -> None:
    later = of_release(learnt(), "b", "b", 1_000.0)
    *_, slightly = runs(later, noisy(0.04, 5), 30)
    *_, better = runs(later, lambda item: 0, 30)
    assert (slightly.found, better.found) == ({}, {})


def test_items_are_drawn_at_random_and_the_same_ones_after_a_restart() -> None:
    tracked = due(learnt(), SPEC)
    first = lacking(tracked, 50)
    assert first == lacking(msgspec.json.decode(msgspec.json.encode(tracked), type=Tracked), 50)
    assert len(set(first)) > 35
    assert lacking(of_release(tracked, "b", "b", 0.0), 50) == [], "no run of it is under way"
    asked = [Asked(item, item % 2, 0.0, {}) for item in first[:3]]
    after = taken_in(tracked, SPEC, asked, LEVEL, 0.0)
    assert lacking(after, 5) == first[3:8], "what was not answered is drawn again"


def test_what_is_unread_is_counted_and_compared_with_nothing() -> None:
    tracked = run(learnt(), lambda item: UNREAD)
    assert (tracked.runs[-1].unread, tracked.tests) == (100, {})


def test_accepting_asks_what_is_lacking_and_then_holds_the_release_against_itself() -> None:
    *_, worse = runs(of_release(learnt(), "b", "b", 1_000.0), lambda item: 1, 4)
    assert worse.found
    seen = accept(worse, 5_000.0)
    assert (seen.found, seen.accepted, seen.due_at) == ({}, None, 5_000.0)
    lacks = sum(answer is None for answer in seen.answers)
    assert 0 < lacks < 150
    *_, after = runs(seen, lambda item: 1, 2)
    assert after.accepted is not None
    assert (after.accepted.release, set(after.accepted.answers)) == ("b", {1})
    *_, later = runs(after, lambda item: 1, 10)
    assert later.found == {}


def test_a_run_ends_when_the_day_has_cost_enough_and_a_failure_is_tried_again() -> None:
    spec = msgspec.structs.replace(SPEC, usd_per_day=0.005)
    tracked = due(sized(begin("bank", PUBLISHED, "a", "a", 0.0), ITEMS), spec)
    assert held_by(tracked, spec, 0.0) == ""
    batch = [Asked(item, 0, 0.001, {}) for item in lacking(tracked, 5)]
    tracked = taken_in(tracked, spec, batch, LEVEL, 0.0)
    assert "have cost 0.0050 of 0.005 USD" in held_by(tracked, spec, 0.0)
    assert held_by(tracked, spec, 86_400.0) == ""
    down = failed(tracked, spec, "503", 10.0, ever=False)
    assert (down.failing_since, down.due_at, down.failure) == (10.0, 70.0, "503")
    assert failed(tracked, spec, "no logs", 10.0, ever=True).due_at == 110.0
    assert lacking(down, 5) == lacking(tracked, 5)


def test_what_is_kept_is_bounded_and_damage_is_seen() -> None:
    tracked = learnt()
    *_, tracked = runs(tracked, lambda item: item % 2, RUNS_MAX + 5)
    assert len(tracked.runs) == RUNS_MAX
    assert len(msgspec.json.encode(tracked)) < 64 * 1024
    assert is_readable(tracked)
    assert not is_readable(msgspec.structs.replace(tracked, left=-1))
    assert not is_readable(msgspec.structs.replace(tracked, found={"charm": 1.0}))
    broken = {**tracked.tests, "stereotyping": {**tracked.tests["stereotyping"], "pairs": 1}}
    assert not is_readable(msgspec.structs.replace(tracked, tests=broken))
    with pytest.raises(ValueError, match="damaged"):
        sized(tracked, ITEMS + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"benchmarks": ()}, {"benchmarks": (PUBLISHED, PUBLISHED)}, {"per_run": 0},
        {"benchmarks": (Published("bbq"),)}, {"worse_by": 0.0}, {"interval_s": 0.0},
    ],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=r"bias\.scores"):
        ScoresSpec(**{"benchmarks": (PUBLISHED,), **wrong})  # type: ignore[arg-type]
