"""Pairs of live requests and copies: what counts, in which order, and how often it is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollout.pairs import Half, Pair, PairsSeen, observe_pairs
from fairlead.rollout.plan import Plan, ShadowRule
from fairlead.stats.intervals import clopper_pearson

PLAN = Plan(alpha=0.05, margin=0.05, shadow=ShadowRule(0.5, timeout_s=2.0))
WELL = Half(200, "", 1, 50.0)
FAILED = Half(502, "upstream_error", 1, 50.0)
SLOW = Half(200, "", 1, 2_500.0)
REJECTED = Half(400, "upstream_rejected", 1, 5.0)
CLIENT_ERROR = Half(400, "", 1, 5.0)


def observed(*sides: tuple[Half, Half], plan: Plan = PLAN) -> PairsSeen:
    pairs = [Pair(f"q{k}.shadow", float(k), *both) for k, both in enumerate(sides, start=1)]
    return observe_pairs(PairsSeen(), plan, pairs)


@pytest.mark.parametrize(
    ("live", "copy", "failed", "live_failed"),
    [
        (WELL, WELL, 0, 0),
        (WELL, FAILED, 1, 0),
        (FAILED, WELL, 0, 1),
        (FAILED, FAILED, 0, 0),
        (WELL, REJECTED, 1, 0),
        (REJECTED, REJECTED, 0, 0),
        (CLIENT_ERROR, CLIENT_ERROR, 0, 0),
        (WELL, SLOW, 1, 0),
        (SLOW, WELL, 0, 1),
        (msgspec.structs.replace(WELL, attempts=2), WELL, 0, 1),
    ],
)
def test_a_pair_counts_for_the_side_that_alone_failed_or_came_too_late(
    live: Half, copy: Half, failed: int, live_failed: int
) -> None:
    found = observed((live, copy))
    assert (found.copies, found.failed, found.live_failed) == (1, failed, live_failed)
    assert found.outcomes["failed"].worse["discordant"] == failed + live_failed


def test_pairs_of_which_neither_side_came_in_time_show_nothing() -> None:
    """Else a time that is too short for any answer would show a release to be as good."""
    found = observed(*[(SLOW, SLOW)] * 1_000)
    assert (found.copies, found.late) == (0, 1_000)
    assert not found.is_not_worse(PLAN)


def test_how_long_answers_took_is_counted_of_those_that_are_well_and_judged_of_none() -> None:
    later = msgspec.structs.replace(WELL, duration_ms=900.0)
    found = observed(*[(WELL, later)] * 3, (later, WELL), (WELL, FAILED))
    assert (found.slower, found.timed) == (3, 4)
    assert found.outcomes == observed(*[(WELL, WELL)] * 4, (WELL, FAILED)).outcomes


sides = st.sampled_from([(WELL, WELL), (WELL, FAILED), (FAILED, WELL), (SLOW, WELL), (SLOW, SLOW)])


@given(st.lists(sides, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_any_division_into_pages_kept_and_read_again_gives_the_same_state(
    taken: list[tuple[Half, Half]], cuts: list[int]
) -> None:
    """Also when pages overlap, as they do after a crash."""
    pairs = [Pair(f"q{k:03}.shadow", float(k // 3), *both) for k, both in enumerate(taken, 3)]
    whole = observe_pairs(PairsSeen(), PLAN, pairs)
    part = PairsSeen()
    for cut in [*sorted(cuts), len(pairs)]:
        part = observe_pairs(part, PLAN, pairs[:cut])
        part = msgspec.json.decode(msgspec.json.encode(part), type=PairsSeen)
    assert part == whole


def test_evidence_in_another_form_is_made_anew_from_the_pairs() -> None:
    kept = observed((WELL, FAILED), (WELL, WELL))
    damaged = msgspec.to_builtins(kept)
    damaged["outcomes"]["failed"]["worse"]["logs"] = [0.0, 1.0]
    pairs = [Pair("q1.shadow", 1.0, WELL, FAILED), Pair("q2.shadow", 2.0, WELL, WELL)]
    assert observe_pairs(msgspec.convert(damaged, PairsSeen), PLAN, pairs) == kept


def draws(dice: random.Random, lost: float, won: float, drift: float) -> Iterator[Pair]:
    """Pairs whose failures in common come and go by the hour."""
    number = 0
    while True:
        number += 1
        both = 0.02 + drift * (number // 200 % 2)
        at = dice.random()
        if at < lost:
            halves = WELL, FAILED
        elif at < lost + won:
            halves = FAILED, WELL
        else:
            halves = (FAILED, FAILED) if dice.random() < both else (WELL, WELL)
        yield Pair(f"q{number:05}.shadow", float(number), *halves)


def test_an_equal_release_is_ended_no_more_often_than_alpha_however_often_one_looks() -> None:
    wrong = 0
    for seed in range(200):
        pairs = draws(random.Random(seed), 0.04, 0.04, drift=0.3)
        found = observe_pairs(PairsSeen(), PLAN, [next(pairs) for _ in range(1_500)])
        wrong += found.is_worse(PLAN)  # the highest evidence of all looks
    assert clopper_pearson(wrong, 200, 0.98)[0] <= PLAN.alpha


def test_a_release_worse_by_the_margin_is_passed_by_evidence_no_more_often_than_beta() -> None:
    wrong = 0
    for seed in range(150):
        pairs = draws(random.Random(seed), 0.04 + PLAN.margin, 0.04, drift=0.3)
        found = PairsSeen()
        for _ in range(800):
            found = observe_pairs(found, PLAN, [next(pairs)])
            if found.is_not_worse(PLAN):
                wrong += 1
                break
    assert clopper_pearson(wrong, 150, 0.98)[0] <= PLAN.beta


def test_a_release_that_fails_a_tenth_more_is_ended_within_some_hundred_pairs() -> None:
    needed = []
    for seed in range(40):
        pairs = draws(random.Random(seed), 0.11, 0.01, drift=0.3)
        found = PairsSeen()
        while not found.is_worse(PLAN):
            found = observe_pairs(found, PLAN, [next(pairs)])
        needed.append(found.copies)
    assert sorted(needed)[20] < 200
