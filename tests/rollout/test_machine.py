"""The rules of the machine, one by one, on hand-made facts."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import Conflict, FairleadError
from fairlead.domain.verdicts import GateOutcome, GateVerdict, RolloutOutcome, RolloutVerdict
from fairlead.rollout import commands
from fairlead.rollout.assessment import assess
from fairlead.rollout.invariants import validate
from fairlead.rollout.judge import Observation
from fairlead.rollout.machine import (
    Command,
    Desired,
    Facts,
    Rollout,
    advance,
    desired,
    is_terminal,
    outcome,
)
from fairlead.rollout.states import TRANSITIONS, State, diagram
from rollout.stepping import PASS, PLAN, begin, judging, last_step, seen, shifting, step


def test_the_gate_comes_before_any_traffic() -> None:
    """While gates run the replicas that they need are wanted, and no share."""
    rollout = begin()
    want = desired(rollout)
    assert (want.run_gates, want.candidate_replicas, want.share) == (True, 2, 0.0)
    assert (want.champion, want.canary) == ("sha256:a", None)
    assert step(rollout, now=5.0, candidate_ready=2).state is State.EVALUATING


@pytest.mark.parametrize("bad", [GateOutcome.FAIL, GateOutcome.INCONCLUSIVE, GateOutcome.ERROR])
def test_a_gate_that_does_not_pass_ends_it(bad: GateOutcome) -> None:
    """Anything but a pass is no pass, and the reason names the gate."""
    failed = GateVerdict("tone", bad, "0.4 is below 0.8")
    rollout = step(begin(gates=2), now=1.0, gate_verdicts=(PASS, failed), candidate_ready=2)
    assert outcome(rollout) == "gate_failed"
    assert rollout.reason == f"gate tone: {bad.value}: 0.4 is below 0.8"
    assert rollout.phase == 0
    assert desired(rollout) == Desired(champion="sha256:a", salt=rollout.salt)
    with pytest.raises(Conflict, match="has ended: gate_failed"):
        advance(rollout, Facts(now=2.0, command=Command.PROMOTE))


def test_missing_verdicts_are_waited_for() -> None:
    """One of two verdicts is not a pass."""
    assert step(begin(gates=2), now=1.0, gate_verdicts=(PASS,)).state is State.EVALUATING


def test_gates_only_ends_after_the_gates() -> None:
    """An evaluation on its own gives no traffic and cannot be promoted."""
    rollout = begin(gates_only=True)
    with pytest.raises(Conflict, match="only evaluates"):
        advance(rollout, Facts(now=1.0, command=Command.PROMOTE))
    assert outcome(step(rollout, now=1.0, gate_verdicts=(PASS,))) == "gates_passed"


def test_first_release_goes_live_when_its_replicas_are_ready() -> None:
    """Without a champion there is nothing to compare with; the gates have to do."""
    rollout = step(begin(champion=None), now=1.0, gate_verdicts=(PASS,), candidate_ready=2)
    assert rollout.state is State.PROMOTING
    assert rollout.reason == "first release"
    assert desired(rollout).candidate_replicas == 3
    assert desired(rollout).champion is None
    rollout = step(rollout, now=2.0, candidate_ready=3, workers_phase=0)
    assert rollout.state is State.SWITCHING
    assert desired(rollout).champion == "sha256:b"
    rollout = step(rollout, now=3.0, candidate_ready=3, workers_phase=1)
    assert (outcome(rollout), rollout.reason) == ("promoted", "first release")


def test_a_plan_without_steps_ships_at_once() -> None:
    """As for going back to an earlier release."""
    plan = msgspec.structs.replace(PLAN, steps=())
    rollout = step(begin(plan=plan, gates=0), now=1.0, candidate_ready=3, workers_phase=0)
    rollout = step(rollout, now=2.0, candidate_ready=3, workers_phase=1)
    assert outcome(rollout) == "promoted"
    assert "no canary steps" in rollout.reason


def test_each_split_is_a_phase_with_a_salt_of_its_own() -> None:
    """Judging begins when every worker runs on the split, and not by an older phase."""
    rollout = shifting()
    want = desired(rollout)
    assert (want.share, want.canary, want.champion) == (0.1, "sha256:b", "sha256:a")
    assert want.phase == 1
    assert want.salt != desired(begin()).salt
    for phase in (None, 0, 2):
        assert step(rollout, now=2.0, candidate_ready=2, workers_phase=phase) == rollout
    assert judging().state is State.JUDGING
    assert judging().step_started_at == 2.0


def test_a_step_has_least_units_and_least_seconds() -> None:
    """Units of an earlier phase do not count for the next step; time alone does not either."""
    rollout = judging()
    early = step(rollout, now=5.0, candidate_ready=2, workers_phase=1, **seen(2, 1, 3.0, 0.1))
    assert early.judge.canary_units(1) == 2
    assert early.state is State.JUDGING
    alone = step(rollout, now=100.0, candidate_ready=2, workers_phase=1)
    assert alone.state is State.JUDGING
    lame = step(early, now=12.0, candidate_ready=1, workers_phase=1)
    assert lame.state is State.JUDGING
    rollout = step(early, now=12.0, candidate_ready=2, workers_phase=1)
    assert (rollout.state, rollout.step, rollout.phase) == (State.SHIFTING, 1, 2)
    assert desired(rollout).share == 0.5
    rollout = step(rollout, now=13.0, candidate_ready=2, workers_phase=2)
    assert rollout.judge.canary_units(2) == 0
    waiting = step(rollout, now=500.0, candidate_ready=2, workers_phase=2)
    assert waiting.state is State.JUDGING


def test_evidence_promotes_replicas_first_traffic_second() -> None:
    """The share stays until as many replicas are ready as the champion has to have."""
    rollout = step(
        last_step(), now=30.0, candidate_ready=2, workers_phase=2, **seen(300, 2, 14.0, 0.5)
    )
    assert rollout.state is State.PROMOTING
    want = desired(rollout)
    assert (want.share, want.candidate_replicas, want.phase) == (0.5, 3, 2)
    rollout = step(rollout, now=31.0, candidate_ready=3, workers_phase=2)
    assert rollout.state is State.SWITCHING
    assert (desired(rollout).champion, desired(rollout).canary) == ("sha256:b", None)
    assert step(rollout, now=32.0, candidate_ready=3, workers_phase=2) == rollout
    rollout = step(rollout, now=32.0, candidate_ready=3, workers_phase=3)
    assert outcome(rollout) == "promoted"
    assert "evidence" in rollout.reason
    assert rollout.verdict is not None
    assert rollout.verdict.outcome is RolloutOutcome.PROMOTE


def being_promoted() -> Rollout:
    """By the judge, while a replica is still missing."""
    rollout = step(
        last_step(), now=30.0, candidate_ready=2, workers_phase=2, **seen(300, 2, 14.0, 0.5)
    )
    assert rollout.state is State.PROMOTING
    return rollout


def later(number: int, failing: float) -> dict[str, Any]:
    """More units at the last share, after those of `being_promoted`."""
    return {
        "observations": tuple(
            Observation(f"z-{i:05}-{arm}", f"z{arm}{i}", bool(arm), 0.5, 2,
                        bool(arm) and i < failing * number, 31.0)
            for i in range(number)
            for arm in (0, 1)
        ),
        "watermark": 40.0,
    }  # fmt: skip


def test_the_verdict_that_promotes_stays_while_evidence_goes_on() -> None:
    """Units that settle later are counted; the verdict is still the one that decided."""
    rollout = being_promoted()
    more = step(rollout, now=41.0, candidate_ready=2, workers_phase=2, **later(60, 0.12))
    assert more.judge.canary.units == rollout.judge.canary.units + 60
    assert assess(more.judge, PLAN).outcome is RolloutOutcome.WAIT
    assert more.verdict == rollout.verdict
    more = step(more, now=42.0, candidate_ready=3, workers_phase=2)
    more = step(more, now=43.0, candidate_ready=3, workers_phase=3)
    assert more.verdict is not None
    assert (outcome(more), more.reason) == ("promoted", more.verdict.reason)
    assert more.verdict.outcome is RolloutOutcome.PROMOTE


def test_a_later_verdict_takes_a_promotion_back() -> None:
    """It then stands in the place of the one that promoted."""
    rollout = being_promoted()
    worse = step(rollout, now=41.0, candidate_ready=2, workers_phase=2, **later(400, 1.0))
    assert worse.state is State.ROLLING_BACK
    assert worse.verdict is not None
    assert worse.verdict.outcome is RolloutOutcome.ROLL_BACK
    assert worse.reason == worse.verdict.reason


def test_the_verdict_beside_a_promotion_by_hand_is_that_of_the_moment() -> None:
    """What the person knew; the reason is theirs."""
    rollout = step(judging(), now=3.0, candidate_ready=2, command=Command.PROMOTE, by="ann")
    known = rollout.verdict
    rollout = step(rollout, now=6.0, candidate_ready=2, workers_phase=1, **seen(5, 1, 3.0, 0.5))
    assert rollout.judge.canary.units == 5
    assert rollout.verdict == known
    rollout = step(rollout, now=7.0, candidate_ready=3, workers_phase=1)
    rollout = step(rollout, now=8.0, candidate_ready=3, workers_phase=2)
    assert (outcome(rollout), rollout.reason) == ("promoted", "promoted by ann")


def test_a_pause_while_promoting_does_not_change_the_reason() -> None:
    """What promoted it is the verdict, not that it was resumed."""
    rollout = step(being_promoted(), now=31.0, candidate_ready=3, command=Command.PAUSE)
    rollout = step(rollout, now=32.0, candidate_ready=3, workers_phase=2, command=Command.RESUME)
    rollout = step(rollout, now=33.0, candidate_ready=3, workers_phase=3)
    assert rollout.verdict is not None
    assert (outcome(rollout), rollout.reason) == ("promoted", rollout.verdict.reason)


def test_what_a_person_said_is_the_reason_where_no_canary_gives_one() -> None:
    """Of going back, and of ending a canary."""
    plan = msgspec.structs.replace(PLAN, steps=())
    rollout = begin(plan=plan, gates=0, why="complaints")
    rollout = step(rollout, now=1.0, candidate_ready=3, workers_phase=0)
    rollout = step(rollout, now=2.0, candidate_ready=3, workers_phase=1)
    assert (outcome(rollout), rollout.reason) == ("promoted", "complaints")
    for at in (begin, judging):
        ended = step(at(), now=20.0, command=Command.ABORT, by="ann", why="complaints")
        assert ended.reason == "complaints"


@pytest.mark.parametrize("state", ["shifting", "judging", "promoting", "paused"])
def test_a_worse_canary_is_rolled_back_in_every_state_with_a_share(state: str) -> None:
    """Also while it is promoted, also while paused; in one change of the split."""
    rollout = {"shifting": shifting, "judging": judging, "promoting": judging, "paused": judging}[
        state
    ]()
    if state == "promoting":
        rollout = step(rollout, now=2.5, candidate_ready=2, command=Command.PROMOTE)
    if state == "paused":
        rollout = step(rollout, now=2.5, candidate_ready=2, command=Command.PAUSE)
    phase = rollout.phase
    rollout = step(
        rollout, now=6.0, candidate_ready=2, workers_phase=phase, **seen(60, 1, 3.0, 0.5, 1.0)
    )
    assert rollout.state is State.ROLLING_BACK
    want = desired(rollout)
    assert (want.share, want.canary, want.champion) == (0.0, None, "sha256:a")
    assert (want.phase, want.candidate_replicas) == (phase + 1, 2)
    rollout = step(rollout, now=7.0, workers_phase=phase + 1)
    assert outcome(rollout) == "rolled_back"
    assert "canary fails 100.0 %" in rollout.reason
    assert desired(rollout).candidate_replicas == 0


def test_a_split_that_is_not_as_logged_is_taken_back_as_invalid() -> None:
    """The reason says that this is no verdict on the release."""
    rollout = step(
        judging(), now=20.0, candidate_ready=2, workers_phase=1, **seen(400, 1, 3.0, 0.1)
    )
    assert rollout.state is State.ROLLING_BACK
    assert rollout.reason.startswith("invalid: the split is not the one that was logged")


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({}, "no traffic: no canary unit has settled"),
        (seen(1, 2, 14.0, 0.5), "too few units: 1 of 3"),
        (seen(4, 2, 14.0, 0.5), "more units to a verdict"),
    ],
)
def test_the_deadline_without_evidence_is_inconclusive(facts: dict[str, Any], named: str) -> None:
    """Nothing is promoted for lack of evidence; the reason names what was missing."""
    rollout = step(last_step(), now=1_001.0, candidate_ready=2, workers_phase=2, **facts)
    assert rollout.state is State.ROLLING_BACK
    assert rollout.reason.startswith("inconclusive: no verdict within 1000 s: ")
    assert named in rollout.reason
    assert rollout.verdict is not None
    assert rollout.verdict.outcome is RolloutOutcome.INCONCLUSIVE


def test_the_deadline_says_when_all_traffic_was_one_unit() -> None:
    """One API key without sessions or users: not "no traffic", but what the client should send."""
    world = tuple(Observation(f"q{i:05}", "key", False, 0.1, 1, False, 3.0 + i) for i in range(300))
    rollout = step(judging(), now=400.0, candidate_ready=2, workers_phase=1,
                   observations=world, watermark=390.0)  # fmt: skip
    late = step(rollout, now=1_001.0, candidate_ready=2, workers_phase=1)
    assert late.reason.startswith(
        "inconclusive: no verdict within 1000 s: too few units: 0 of 2 canary units settled at "
        "10%; 300 requests came from 1 unit "
    )
    assert "`x-session-id`" in late.reason


def test_the_deadline_also_holds_when_no_worker_takes_the_split_over() -> None:
    """A gateway that never answers does not keep a rollout for ever."""
    rollout = step(shifting(), now=1_001.0, candidate_ready=2)
    assert rollout.state is State.ROLLING_BACK
    assert "did not take over" in rollout.reason


def test_a_pause_holds_steps_promotion_and_deadline_but_not_observation() -> None:
    """Its time is not counted against the deadline."""
    rollout = step(judging(), now=3.0, candidate_ready=2, workers_phase=1, command=Command.PAUSE)
    assert rollout.paused
    again = step(rollout, now=4.0, candidate_ready=2, workers_phase=1, command=Command.PAUSE)
    assert again == rollout
    held = step(rollout, now=2_000.0, candidate_ready=2, workers_phase=1, **seen(300, 1, 3.0, 0.5))
    assert held.state is State.JUDGING
    assert held.judge.canary.units == 300
    rollout = step(rollout, now=1_003.0, candidate_ready=2, workers_phase=1, command=Command.RESUME)
    assert not rollout.paused
    assert rollout.paused_s == 1_000.0
    assert step(rollout, now=1_900.0, candidate_ready=2, workers_phase=1).state is State.JUDGING
    late = step(rollout, now=2_001.0, candidate_ready=2, workers_phase=1)
    assert late.state is State.ROLLING_BACK


def test_a_pause_before_traffic_holds_the_first_share_and_costs_no_time() -> None:
    """Gates go on; the deadline has not begun."""
    rollout = step(begin(), now=1.0, command=Command.PAUSE)
    rollout = step(rollout, now=5_000.0, gate_verdicts=(PASS,), candidate_ready=2)
    assert rollout.state is State.STARTING
    rollout = step(rollout, now=6_000.0, candidate_ready=2, command=Command.RESUME)
    assert rollout.state is State.SHIFTING
    assert rollout.paused_s == 0.0


@pytest.mark.parametrize("at", ["starting", "shifting", "judging", "paused"])
def test_promoted_by_hand(at: str) -> None:
    """After its gates a release can be promoted by a person, whose name is in the reason."""
    rollout = {
        "starting": lambda: step(begin(), now=1.0, gate_verdicts=(PASS,)),
        "shifting": shifting,
        "judging": judging,
        "paused": lambda: step(judging(), now=2.5, candidate_ready=2, command=Command.PAUSE),
    }[at]()
    rollout = step(
        rollout, now=3.0, candidate_ready=3, workers_phase=None, command=Command.PROMOTE, by="ann"
    )
    assert rollout.state is State.SWITCHING
    rollout = step(rollout, now=4.0, candidate_ready=3, workers_phase=rollout.phase)
    assert (outcome(rollout), rollout.reason) == ("promoted", "promoted by ann")


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (begin, "aborted"),
        (shifting, "rolled_back"),
        (judging, "rolled_back"),
        (last_step, "rolled_back"),
    ],
    ids=["evaluating", "shifting", "judging", "last step"],
)
def test_abort_goes_back_if_there_was_traffic(at: Callable[[], Rollout], expected: str) -> None:
    """Without traffic there is nothing to take back."""
    rollout = step(at(), now=20.0, command=Command.ABORT, by="ann")
    rollout = step(rollout, now=21.0, workers_phase=rollout.phase)
    assert (outcome(rollout), rollout.reason) == (expected, "aborted by ann")


@pytest.mark.parametrize(
    ("at", "expected"),
    [(begin, "failed"), (shifting, "rolled_back"), (judging, "rolled_back")],
    ids=["evaluating", "shifting", "judging"],
)
def test_replicas_that_cannot_run_end_it(at: Callable[[], Rollout], expected: str) -> None:
    """Before traffic it has failed, afterwards it is rolled back; their own words are kept."""
    rollout = step(at(), now=20.0, candidate_failed="out of memory")
    rollout = step(rollout, now=21.0, workers_phase=rollout.phase)
    assert outcome(rollout) == expected
    assert rollout.reason == "its replicas fail: out of memory"


def test_replicas_that_fail_at_the_last_moment() -> None:
    """When all traffic is moved already: back to the champion; a first release has none."""
    rollout = step(judging(), now=3.0, candidate_ready=3, command=Command.PROMOTE)
    rollout = step(rollout, now=4.0, candidate_failed="killed")
    assert rollout.state is State.ROLLING_BACK
    assert desired(rollout).champion == "sha256:a"
    first = step(begin(champion=None, gates=0), now=1.0, candidate_ready=3, workers_phase=0)
    assert first.state is State.SWITCHING
    first = step(first, now=2.0, candidate_failed="killed")
    assert outcome(first) == "failed"
    assert desired(first).champion is None


def test_commands_that_make_no_sense_change_nothing() -> None:
    """Each is a conflict with the state in its message."""
    switching = step(judging(), now=3.0, candidate_ready=3, command=Command.PROMOTE)
    back = step(judging(), now=3.0, command=Command.ABORT)
    assert step(back, now=4.0, command=Command.ABORT) == back
    for rollout, command in (
        (begin(), Command.PROMOTE),
        (back, Command.PROMOTE),
        (back, Command.PAUSE),
        (switching, Command.PAUSE),
    ):
        with pytest.raises(Conflict, match=rollout.state.value):
            advance(rollout, Facts(now=9.0, command=command))


def pause_for_ever(rollout: Rollout) -> None:
    for i in range(1_000):
        command = (Command.PAUSE, Command.RESUME)[i % 2]
        rollout = advance(rollout, Facts(now=3.0 + i, candidate_ready=2, command=command))
        assert len(rollout.history) <= commands.PAUSES_HISTORY_MAX + 1


def test_the_history_is_bounded() -> None:
    """Someone who pauses and resumes for ever is stopped."""
    rollout = judging()
    with pytest.raises(Conflict, match="too often"):
        pause_for_ever(rollout)


def test_what_is_not_in_the_table_raises_with_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that could do what it does not document is broken, loudly."""
    monkeypatch.setitem(TRANSITIONS, State.JUDGING, {State.PROMOTING: "only this"})
    with pytest.raises(FairleadError, match="cannot go from judging to rolling_back") as raised:
        advance(judging_raw(), Facts(now=9.0, command=Command.ABORT))
    assert "all gates passed" in str(raised.value) or "passed all 1 gates" in str(raised.value)


def judging_raw() -> Rollout:
    rollout = advance(begin(), Facts(now=1.0, gate_verdicts=(PASS,), candidate_ready=2))
    return advance(rollout, Facts(now=2.0, candidate_ready=2, workers_phase=1))


def test_broken_rollouts_do_not_pass_the_invariants() -> None:
    """The check checks."""
    good = judging()
    for changes, named in (
        ({"champion": None}, "without a champion"),
        ({"state": State.PROMOTED}, "history ends in"),
        ({"gate_verdicts": ()}, "a gate has not passed"),
        ({"phase": 1, "state": State.STARTING}, "traffic before the gates"),
        ({"history": good.history[1:]}, "gap"),
    ):
        with pytest.raises(FairleadError, match=named):
            validate(msgspec.structs.replace(good, **changes))
    verdict = RolloutVerdict(RolloutOutcome.PROMOTE, "")
    with pytest.raises(FairleadError, match="without a canary unit"):
        validate(msgspec.structs.replace(good, verdict=verdict))
    promoting = being_promoted()
    waiting = RolloutVerdict(RolloutOutcome.WAIT, promoting.reason)
    for changed in (None, waiting, verdict):
        with pytest.raises(FairleadError, match="promoted by the judge for 'canary fails"):
            validate(msgspec.structs.replace(promoting, verdict=changed))
    ended = step(promoting, now=42.0, candidate_ready=3, workers_phase=2)
    ended = step(ended, now=43.0, candidate_ready=3, workers_phase=3)
    with pytest.raises(FairleadError, match="its reason is 'else'"):
        validate(msgspec.structs.replace(ended, reason="else"))


def test_the_table_is_whole() -> None:
    """Every state is in it, every state can be reached, and every path can end."""
    assert set(TRANSITIONS) == set(State)
    reached = {State.EVALUATING, State.QUEUED}
    for _ in State:
        reached |= {to for origin in reached for to in TRANSITIONS[origin]}
    assert reached == set(State)
    ending = {state for state in State if not TRANSITIONS[state]}
    for _ in State:
        ending |= {state for state in State if ending & set(TRANSITIONS[state])}
    assert ending == set(State)
    assert is_terminal(msgspec.structs.replace(begin(), state=State.PROMOTED))


def test_the_diagram_shows_the_table() -> None:
    """Each transition is one arrow."""
    drawn = diagram()
    arrows = [line.strip() for line in drawn.splitlines() if "-->" in line and "[*]" not in line]
    assert len(arrows) == sum(len(targets) for targets in TRANSITIONS.values())
    assert "judging --> rolling_back: worse, invalid, inconclusive" in drawn
    assert drawn.startswith("stateDiagram-v2\n    [*] --> evaluating\n")
