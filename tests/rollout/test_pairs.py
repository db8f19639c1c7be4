"""Pairs of live requests and copies: what counts, in which order, and how often it is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollout import pairs
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.pairs import Half, Pair, PairGathering, PairsSeen, observe_pairs
from fairlead.rollout.plan import Plan, ShadowRule
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.pairs import PairedRae

PLAN = Plan(alpha=0.05, margin=0.05, shadow=ShadowRule(0.5, timeout_s=2.0))
WELL = Half(200, "", 1, 50.0)
FAILED = Half(502, "upstream_error", 1, 50.0)
SLOW = Half(200, "", 1, 2_500.0)
REJECTED = Half(400, "upstream_rejected", 1, 5.0)
LEFT = Half(499, "", 1, 50.0)
LEFT_LATE = Half(499, "", 1, 2_500.0)
CLIENT_ERROR = Half(400, "", 1, 5.0)


def pair(number: int, at: float, live: Half, copy: Half, unit: str = "") -> Pair:
    """Of a unit of its own, if none is named."""
    return Pair(f"q{number:07}.shadow", at, live, copy, unit or f"u{number}")


def observed(*sides: tuple[Half, Half], plan: Plan = PLAN) -> PairsSeen:
    pairs = [pair(k, float(k), *both) for k, both in enumerate(sides, start=1)]
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
        (LEFT_LATE, WELL, 0, 1),
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


@pytest.mark.parametrize(
    ("live", "copy", "worse", "not_worse"),
    [
        (LEFT, WELL, -1.0, 0.0),
        (LEFT, FAILED, 0.0, 1.0),
        (WELL, LEFT, 0.0, 1.0),
        (FAILED, LEFT, -1.0, 0.0),
        (LEFT, LEFT, -1.0, 1.0),
        (SLOW, LEFT, -1.0, 0.0),
        (SLOW, SLOW, 0.0, PLAN.margin),
    ],
)
def test_what_nobody_knows_is_the_worst_for_what_is_to_be_shown(
    live: Half, copy: Half, worse: float, not_worse: float
) -> None:
    found = observed((live, copy))
    evidence = found.outcomes["failed"]
    for test, difference, kept in (
        (PairedRae(gap=PLAN.tolerance, worse=True), worse, evidence.worse),
        (PairedRae(gap=PLAN.margin, worse=False), not_worse, evidence.not_worse),
    ):
        test.update_difference(difference)
        assert test.state() == kept
    assert (found.copies, found.unknown + found.late, found.units) == (0, 1, 0)


def test_a_unit_is_one_bet_on_the_mean_of_the_pairs_that_follow_its_first_closely() -> None:
    taken = [
        pair(1, 1.0, WELL, FAILED, "a"),
        pair(2, 1.5, WELL, WELL, "b"),
        pair(3, 3.0, WELL, WELL, "a"),
        pair(4, 3.1, WELL, FAILED, "a"),  # later than 2 s after its first
        pair(5, 9.0, FAILED, WELL, "b"),
    ]
    found = observe_pairs(PairsSeen(), PLAN, taken)
    expected = PairedRae(gap=PLAN.tolerance, worse=True)
    expected.update_difference(0.5)
    expected.update_difference(0.0)
    assert found.outcomes["failed"].worse == expected.state()
    assert (found.units, found.copies, found.failed, found.live_failed) == (2, 3, 1, 0)


def test_a_unit_settles_when_its_time_is_over_and_in_the_order_of_enrolment() -> None:
    taken = [pair(1, 1.0, WELL, FAILED, "a"), pair(2, 1.5, WELL, WELL, "b")]
    none = PairsSeen()
    assert observe_pairs(none, PLAN, taken, until=3.0) is none
    first = observe_pairs(none, PLAN, taken, until=3.1)
    assert (first.units, first.cursor) == (1, (1.0, taken[0].id))
    assert observe_pairs(first, PLAN, taken, until=3.5) is first
    assert observe_pairs(first, PLAN, taken, until=9.0) == observe_pairs(none, PLAN, taken)


def test_units_beyond_those_that_can_be_remembered_are_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairs, "UNITS_PER_PHASE_MAX", 3)
    found = observed(*[(WELL, WELL)] * 9)
    assert (found.units, len(found.judged)) == (3, 12)


sides = st.sampled_from(
    [(WELL, WELL), (WELL, FAILED), (FAILED, WELL), (SLOW, WELL), (SLOW, SLOW), (LEFT, WELL)]
)


@given(
    st.lists(st.tuples(sides, st.sampled_from("abcdefgh")), max_size=60),
    st.lists(st.floats(0.0, 30.0), max_size=4),
)
def test_any_division_into_looks_and_pages_kept_and_read_again_gives_the_same_state(
    taken: list[tuple[tuple[Half, Half], str]], looks: list[float]
) -> None:
    """Also when pages overlap, as they do after a crash."""
    every = [pair(k, k / 3, *both, unit) for k, (both, unit) in enumerate(taken, 3)]
    whole = observe_pairs(PairsSeen(), PLAN, every, until=90.0)
    part = PairsSeen()
    for until in [*sorted(looks), 90.0]:
        gathering = PairGathering(part, PLAN, until)
        given = [one for one in every if one.sent_at < until]
        for at in range(0, len(given), 7):
            gathering.add(given[max(0, at - 2) : at + 7])
        part = gathering.settled()
        part = msgspec.json.decode(msgspec.json.encode(part), type=PairsSeen)
    assert part == whole


def test_evidence_in_another_form_is_made_anew_from_the_pairs() -> None:
    kept = observed((WELL, FAILED), (WELL, WELL))
    damaged = msgspec.to_builtins(kept)
    damaged["outcomes"]["failed"]["worse"]["logs"] = [0.0, 1.0]
    by_request = {**msgspec.to_builtins(kept), "judged": "", "units": 0}
    taken = [pair(1, 1.0, WELL, FAILED), pair(2, 2.0, WELL, WELL)]
    for stored in damaged, by_request:
        assert observe_pairs(msgspec.convert(stored, PairsSeen), PLAN, taken) == kept


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
        yield pair(number, float(number), *halves)


def test_an_equal_release_is_ended_no_more_often_than_alpha_however_often_one_looks() -> None:
    wrong = 0
    for seed in range(200):
        drawn = draws(random.Random(seed), 0.04, 0.04, drift=0.3)
        found = observe_pairs(PairsSeen(), PLAN, [next(drawn) for _ in range(800)])
        wrong += found.is_worse(PLAN)  # the highest evidence of all looks
    assert clopper_pearson(wrong, 200, 0.98)[0] <= PLAN.shadow_alpha


def test_a_release_worse_by_the_margin_is_passed_by_evidence_no_more_often_than_beta() -> None:
    wrong = 0
    for seed in range(150):
        drawn = draws(random.Random(seed), 0.04 + PLAN.margin, 0.04, drift=0.3)
        found = PairsSeen()
        for _ in range(100):
            found = observe_pairs(found, PLAN, [next(drawn) for _ in range(8)])
            if found.is_not_worse(PLAN):
                wrong += 1
                break
    assert clopper_pearson(wrong, 150, 0.98)[0] <= PLAN.beta


def test_a_release_that_fails_a_tenth_more_is_ended_within_some_hundred_pairs() -> None:
    needed = []
    for seed in range(40):
        drawn = draws(random.Random(seed), 0.11, 0.01, drift=0.3)
        found = PairsSeen()
        while not found.is_worse(PLAN):
            found = observe_pairs(found, PLAN, [next(drawn)])
        needed.append(found.copies)
    assert sorted(needed)[20] < 200


def sessions(dice: random.Random, count: int) -> Iterator[Pair]:
    """40 at a time, of 30 requests each; 1 % are broken on either side alone."""
    live: list[list[int]] = []
    begun = 0
    for number in range(count):
        while len(live) < 40:
            begun += 1
            live.append([30, begun, dice.choices((0, 1, 2), (0.98, 0.01, 0.01))[0]])
        session = dice.choice(live)
        session[0] -= 1
        if not session[0]:
            live.remove(session)
        sides = [(WELL, WELL), (WELL, FAILED), (FAILED, WELL)][session[2]]
        yield pair(number, number / 10, *sides, f"s{session[1]}")


def impatient(dice: random.Random, count: int) -> Iterator[Pair]:
    """Answers that take as long on both sides, and clients who leave after half the time."""
    for number in range(count):
        took = [dice.paretovariate(1.0) * 30.0 for _ in "ab"]
        live = Half(200, "", 1, took[0]) if took[0] < 1_000.0 else Half(499, "", 1, 1_000.0)
        copy = Half(200, "", 1, took[1]) if took[1] < 2_000.0 else Half(504, "timeout", 1, 2_000.0)
        yield pair(number, float(number), live, copy)


@pytest.mark.parametrize(("world", "count"), [(sessions, 3_000), (impatient, 800)])
def test_an_equal_release_is_not_ended_for_its_sessions_or_for_clients_who_leave(
    world: Callable[[random.Random, int], Iterator[Pair]], count: int
) -> None:
    """One bet per request ended 4 of 15 of the first; without those who left, 5 of the second."""
    plan = msgspec.structs.replace(PLAN, alpha=0.01)
    wrong = 0
    for seed in range(25):
        found = observe_pairs(PairsSeen(), plan, world(random.Random(seed), count))
        assert found.units > 100
        wrong += found.is_worse(plan)
    assert wrong == 0


def test_a_release_of_which_the_answers_that_hang_are_given_up_is_not_shown_to_be_as_good() -> None:
    """On replicas that clients use too, a copy gives its slot back while it hangs."""
    for seed in range(20):
        dice = random.Random(seed)
        hangs = [(WELL, LEFT) if dice.random() < 0.1 else (WELL, WELL) for _ in range(800)]
        assert not observed(*hangs).is_not_worse(PLAN)
    assert observed(*[(WELL, LEFT)] * 100).units == 0, "nor does it go on by their number"


def flagged(refused: int, malformed: int = -1) -> Half:
    return msgspec.structs.replace(WELL, refused=refused, malformed=malformed)


TEXT = msgspec.structs.replace(
    PLAN,
    metrics=(
        DeclaredMetric("refusals", "refusal", margin=0.1),
        DeclaredMetric("form", "format", margin=0.1),
    ),
)


def test_a_release_that_only_refuses_more_is_ended_where_refusals_are_declared() -> None:
    found = observed(*[(flagged(0), flagged(1))] * 20, plan=TEXT)
    assert found.is_worse(TEXT)
    assert (found.failed, found.outcomes["failed"].worse["discordant"]) == (0, 0)
    assert "end it, most of it by 'refusals'" in pairs.worse_by_pairs(found, TEXT)
    assert not observed(*[(flagged(0), flagged(1))] * 20).is_worse(PLAN)


def test_answers_of_which_no_format_was_asked_do_not_show_that_it_is_kept() -> None:
    assert not observed(*[(flagged(0), flagged(0))] * 500, plan=TEXT).is_not_worse(TEXT)
    assert observed(*[(flagged(0, 0), flagged(0, 0))] * 500, plan=TEXT).is_not_worse(TEXT)


def test_what_was_kept_without_an_outcome_is_made_anew() -> None:
    kept = observed((flagged(0), flagged(1)))
    taken = [pair(1, 1.0, flagged(0), flagged(1))]
    assert observe_pairs(kept, TEXT, taken) == observe_pairs(PairsSeen(), TEXT, taken)


GUARDED = msgspec.structs.replace(
    PLAN, metrics=(DeclaredMetric("hits", "guardrail_hits", margin=0.1),)
)


def hitting(hits: int) -> Half:
    return msgspec.structs.replace(WELL, guardrail_hits=hits)


def test_a_release_that_hits_more_of_its_guardrails_is_ended_where_hits_are_declared() -> None:
    """Also where the guardrails only flag."""
    found = observed(*[(hitting(0), hitting(3))] * 20, plan=GUARDED)
    assert found.is_worse(GUARDED)
    assert "end it, most of it by 'hits'" in pairs.worse_by_pairs(found, GUARDED)
    assert not observed(*[(hitting(0), hitting(3))] * 20).is_worse(PLAN)


def test_a_release_that_hits_as_few_of_its_guardrails_goes_on() -> None:
    assert observed(*[(hitting(0), hitting(0))] * 500, plan=GUARDED).is_not_worse(GUARDED)
    assert observed(*[(hitting(2), hitting(1))] * 500, plan=GUARDED).is_not_worse(GUARDED)
