"""What the judge knows is a function of the facts alone, and it counts what it says it counts."""

import random
from collections import defaultdict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.rollout import units as units_module
from fairlead.rollout.judge import Gathering, Judge, Observation, new_judge, observe
from fairlead.rollout.plan import FeedbackRule, Plan, Step

PLAN = Plan(
    steps=(Step(0.5, 1),), settle_s=3.0, feedback=FeedbackRule("good"), expected_failure_rate=0.2
)
NAMES = ("good", "other")


def request(
    number: int,
    unit: str,
    at: float,
    *,
    phase: int = 1,
    error: bool = False,
    feedback: tuple[tuple[str, float, float], ...] = (),
    rho: float = 0.5,
) -> Observation:
    """A request; the arm of a unit follows from its name and phase, as in the gateway."""
    canary = (ord(unit[-1]) + phase) % 2 == 0
    return Observation(f"r{number:04}", unit, canary, rho, phase, error, at, feedback)


@st.composite
def worlds(draw: st.DrawFn) -> list[Observation]:
    """Requests of a few units over three phases, on a coarse clock so that times coincide."""
    made = []
    for number in range(draw(st.integers(0, 40))):
        at = float(draw(st.integers(0, 30))) / 2
        feedback = tuple(
            (name, float(value), at + delay / 2)
            for name, value, delay in draw(
                st.lists(
                    st.tuples(st.sampled_from(NAMES), st.integers(0, 1), st.integers(0, 10)),
                    max_size=2,
                )
            )
        )
        unit = draw(st.sampled_from("abcdef"))
        phase = min(1 + int(at / 5), 3) - draw(st.sampled_from((0, 0, 0, 1, 2)))
        made.append(
            request(
                number,
                unit,
                at,
                phase=max(1, phase),
                error=draw(st.booleans()),
                feedback=feedback,
                rho=(0.1, 0.3, 0.5)[max(1, phase) - 1],
            )
        )
    return made


def known(world: list[Observation], moment: float, judge: Judge) -> list[Observation]:
    """What a store that knows everything before `moment` gives after the cursor."""
    return [
        msgspec.structs.replace(r, feedback=tuple(f for f in r.feedback if f[2] < moment))
        for r in world
        if r.started_at < moment and (r.started_at, r.id) > judge.cursor
    ]


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(st.floats(0, 25), max_size=8), st.randoms())
def test_any_batches_and_watermarks_give_the_same_state(
    world: list[Observation], moments: list[float], shuffle: random.Random
) -> None:
    """Bit for bit, through JSON in between, in any order inside a batch, told twice or more."""
    end = 30.0
    whole = observe(new_judge(PLAN), PLAN, world, end)
    judge = new_judge(PLAN)
    for moment in [*sorted(moments), end, end]:
        batch = known(world, moment, judge) * 2
        shuffle.shuffle(batch)
        judge = observe(judge, PLAN, batch, moment)
        judge = msgspec.json.decode(msgspec.json.encode(judge), type=Judge)
    assert judge == whole


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(st.floats(0, 25), max_size=4), st.integers(1, 5), st.integers(2, 9))
def test_pages_however_short_give_the_same_state_as_one_reading(
    world: list[Observation], moments: list[float], page: int, units_max: int
) -> None:
    """Also where one window holds more requests than a page, and a phase is full in between."""
    whole = paged = new_judge(PLAN)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(units_module, "UNITS_PER_PHASE_MAX", units_max)
        for moment in [*sorted(moments), 30.0]:
            whole = observe(whole, PLAN, known(world, moment, whole), moment)
            batch = sorted(known(world, moment, paged), key=lambda r: (r.started_at, r.id))
            gathering = Gathering(paged, PLAN, moment)
            for begin in range(0, len(batch), page):
                gathering.add(batch[begin : begin + page])
            paged = gathering.settled()
            assert paged == whole


def test_what_is_held_while_gathering_grows_with_the_units_and_not_with_the_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units_module, "UNITS_PER_PHASE_MAX", 5)
    gathering = Gathering(new_judge(PLAN), PLAN, 60.0)
    for number in range(300):
        gathering.add([request(number, f"u{number % 50}", number / 100)])
    assert len(gathering._units) == 5
    judge = gathering.settled()
    assert judge.champion.requests + judge.canary.requests == 30
    assert judge.cursor == (2.99, "r0299")


@settings(max_examples=50, deadline=None)
@given(worlds(), st.floats(0, 25))
def test_counts_are_those_of_the_definition(world: list[Observation], watermark: float) -> None:
    """Against the definition, written out: first requests, windows, last feedback, one per unit."""
    facts = known(world, watermark, new_judge(PLAN))
    by_unit: dict[tuple[int, str], list[Observation]] = defaultdict(list)
    for r in sorted(facts, key=lambda r: (r.started_at, r.id)):
        by_unit[r.phase, r.unit].append(r)
    expected = {False: [0, 0.0, 0, 0, 0, 0, 0.0], True: [0, 0.0, 0, 0, 0, 0, 0.0]}
    newest = 0
    for (phase, _), requests in sorted(
        by_unit.items(), key=lambda item: (item[1][0].started_at, item[1][0].id)
    ):
        until = requests[0].started_at + 3.0
        if until >= watermark or phase <= newest - 2:
            continue
        newest = max(newest, phase)
        inside = [r for r in requests if r.started_at <= until]
        said = [
            max(((at, value) for name, value, at in r.feedback if name == "good" and at <= until),
                default=None)
            for r in inside
        ]  # fmt: skip
        bad = [
            r.failed_by_error or (s is not None and s[1] < 0.5)
            for r, s in zip(inside, said, strict=True)
        ]
        row = expected[inside[0].canary]
        row[0] += 1
        row[1] += sum(bad) / len(bad)
        row[2] += len(inside)
        row[3] += sum(r.failed_by_error for r in inside)
        row[4] += sum(s is not None for s in said)
        silent = [s is None and not r.failed_by_error for r, s in zip(inside, said, strict=True)]
        row[5] += sum(silent)
        row[6] += (sum(bad) + sum(silent)) / len(bad)
    judge = observe(new_judge(PLAN), PLAN, facts, watermark)
    for arm, counts in ((judge.champion, expected[False]), (judge.canary, expected[True])):
        assert (arm.units, arm.requests, arm.errors, arm.feedback, arm.silent) == (
            counts[0], counts[2], counts[3], counts[4], counts[5],
        )  # fmt: skip
        assert arm.failures == arm.failed == pytest.approx(counts[1])
        assert arm.unconfirmed == pytest.approx(counts[6])


def test_a_unit_settles_when_its_window_is_known_and_no_sooner() -> None:
    """The moment itself is not enough: something may yet be recorded for it."""
    world = [request(1, "a", 10.0), request(2, "a", 12.0, error=True)]
    early = observe(new_judge(PLAN), PLAN, world, 13.0)
    assert early.champion.units + early.canary.units == 0
    later = observe(early, PLAN, world, 13.1)
    assert later.champion.failures + later.canary.failures == 0.5


def test_who_comes_back_is_not_judged_again() -> None:
    """A sticky user is one unit per phase, and a new one in the next phase."""
    world = [request(i, "a", 10.0 * i) for i in range(1, 6)] + [request(9, "a", 70.0, phase=2)]
    judge = observe(new_judge(PLAN), PLAN, world, 100.0)
    assert judge.champion.units + judge.canary.units == 2
    assert judge.champion.requests + judge.canary.requests == 2
    assert judge.requests == 6


def test_feedback_that_comes_late_does_not_count_and_the_last_one_does() -> None:
    """Within the unit's window the last word counts; after it nothing changes the verdict."""
    corrected = (("good", 0.0, 11.0), ("good", 1.0, 12.0))
    late = (("good", 0.0, 13.5),)
    world = [
        request(1, "a", 10.0, feedback=corrected),
        request(2, "bb", 10.0, feedback=late),
        request(3, "ccc", 10.0, feedback=(("good", 0.0, 12.0),)),
        request(4, "dddd", 10.0, feedback=(("other", 0.0, 12.0),)),
    ]
    judge = observe(new_judge(PLAN), PLAN, world, 20.0)
    assert judge.champion.failures + judge.canary.failures == 1.0
    assert judge.champion.feedback + judge.canary.feedback == 2


def test_without_a_rule_feedback_means_nothing() -> None:
    """By default only server errors are failures."""
    plan = msgspec.structs.replace(PLAN, feedback=None)
    world = [request(1, "a", 1.0, feedback=(("good", 0.0, 1.5),)), request(2, "b", 1.0, error=True)]
    judge = observe(new_judge(plan), plan, world, 20.0)
    assert judge.champion.failures + judge.canary.failures == 1.0


def test_requests_that_were_not_assigned_at_random_do_not_count() -> None:
    """At share 0 or 1 there is nothing to compare, and nothing to read twice."""
    certain = [request(1, "a", 1.0, rho=0.0), request(2, "b", 1.0, rho=1.0)]
    judge = new_judge(PLAN)
    passed = observe(judge, PLAN, certain, 20.0)
    assert passed == msgspec.structs.replace(judge, cursor=(1.0, "r0002"))
    assert observe(passed, PLAN, certain, 21.0) is passed
    split = [request(3, "c", 19.5), request(4, "d", 19.7, rho=0.0)]
    early = observe(passed, PLAN, [*certain, *split], 20.0)
    assert early is passed, "not past a unit that has not settled"
    late = observe(passed, PLAN, split, 90.0)
    assert late.cursor == (19.7, "r0004")
    alone = observe(judge, PLAN, split[:1], 90.0)
    assert late == msgspec.structs.replace(alone, cursor=late.cursor)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full phase takes no more units, and says the same in any batches; old phases are let go."""
    monkeypatch.setattr(units_module, "UNITS_PER_PHASE_MAX", 5)
    world = [request(i, f"u{i % 9}", float(i)) for i in range(40)]
    whole = observe(new_judge(PLAN), PLAN, world, 60.0)
    assert whole.champion.units + whole.canary.units == 5
    judge = new_judge(PLAN)
    for moment in range(2, 61):
        judge = observe(judge, PLAN, known(world, float(moment), judge), float(moment))
    assert judge == whole
    later = [request(100 + i, "u0", 100.0 + 10 * i, phase=1 + i) for i in range(4)]
    judge = observe(judge, PLAN, later, 200.0)
    assert [bool(units.seen) for units in judge.phases] == [False, False, True, True]
    assert sum(units.canary + units.champion for units in judge.phases) == 8
