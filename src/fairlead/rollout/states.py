"""The state machine of a rollout: from gates over a canary to promotion, or back.

Rules
- `advance` is a pure function of the stored rollout and the facts. It goes on until nothing
  changes, so a controller that was away for a while catches up in one call; called again with the
  same facts it returns the same rollout.
- While shadowing the release gets copies of requests and nobody its answers: the split stays as it
  was, phase 0. It goes on when the pairs have shown that it is not worse by the margin, or enough
  of them are no evidence that it is worse. With that evidence, or without an end within the
  deadline, the rollout has failed.
- The split (share, canary, champion) follows from the state alone (`desired`). Whenever it changes,
  `phase` grows by one and the assignment has a new salt. The gateway workers run on the split when
  they report its phase; no state that gives traffic is left for a later step before they do.
- Evidence is gathered while the canary has a share: `shifting`, `judging`, `promoting`. The verdict
  by which a release is promoted stays, unless a later one takes it back.
- Safety comes first: a verdict to roll back, a split that is not as logged, and replicas that fail
  act in every state, also while paused. A pause holds steps, promotion and the deadline.
- A queued rollout waits for the one before it and wants nothing. Its champion is the one that it
  finds when its turn comes.
- At a checkpoint (`checkpoints`) it waits for hooks and approvals; in a freeze no traffic moves to
  the release. Both hold steps, promotion and deadline as a pause does, and nothing else.
- Every state has a deadline of its own; none that is missed promotes. A rollout that ends has an
  `Ending`, and each has its advice.
- A step's least units and seconds are minimums. The last step lasts until there is evidence that
  the canary is not worse, or until the deadline: then it is rolled back as inconclusive. Nothing is
  ever promoted for lack of evidence, except by hand.
- With a ramp (`ramp`) the steps are a grid of shares. The rollout goes up as the evidence allows,
  goes down when its harm could exceed the budget, also while it is held, and back when no share
  would do; it is promoted at whatever share the evidence suffices.
- A phase in which as many units were judged as are remembered gives way to a new one with a new
  salt, at the same split: its units are assigned anew, and the judge goes on.
- While promoting, replicas come first: all traffic moves only when as many are ready as the
  champion has to have. The champion's replicas are needed until the rollout has ended.
- After the move of all traffic the old replicas stay warm for the plan's time (`watching`), and
  with a holdback the same judge goes on: its verdict to roll back still takes everything back.
- Rolling back is one change of the split.
- Conversations may finish on the release that is left (`Finish`), where the plan says so: in the
  same change, uncounted, for a time for which its replicas stay. Then they move, too.
- Only what `TRANSITIONS` lists can happen; anything else raises with the history.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where a rollout is."""

    QUEUED = "queued"
    EVALUATING = "evaluating"
    STARTING = "starting"
    SHADOWING = "shadowing"
    SHIFTING = "shifting"
    JUDGING = "judging"
    PROMOTING = "promoting"
    SWITCHING = "switching"
    WATCHING = "watching"
    ROLLING_BACK = "rolling_back"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    GATE_FAILED = "gate_failed"
    GATES_PASSED = "gates_passed"
    ABORTED = "aborted"
    FAILED = "failed"


_GIVEN_UP = {
    State.FAILED: "replicas fail, or something did not come in time",
    State.ABORTED: "aborted or superseded",
}
_BACK = {State.ROLLING_BACK: "worse, invalid, too late, replicas fail or aborted"}
_BACK_LATE = {
    State.ROLLING_BACK: "worse, invalid, inconclusive, too much harm, replicas fail or aborted"
}

TRANSITIONS: dict[State, dict[State, str]] = {
    State.QUEUED: {
        State.EVALUATING: "its turn",
        State.ABORTED: "aborted or superseded",
    },
    State.EVALUATING: {
        State.STARTING: "all gates passed",
        State.GATE_FAILED: "a gate did not pass",
        State.GATES_PASSED: "all gates passed, nothing to ship",
        **_GIVEN_UP,
    },
    State.STARTING: {
        State.SHADOWING: "canary replicas ready, copies first",
        State.SHIFTING: "canary replicas ready",
        State.PROMOTING: "first release, no steps or by hand",
        **_GIVEN_UP,
    },
    State.SHADOWING: {
        State.SHIFTING: "copies not worse",
        State.PROMOTING: "no steps or by hand",
        State.FAILED: "replicas fail, copies are worse, or too few come",
        State.ABORTED: "aborted or superseded",
    },
    State.SHIFTING: {
        State.JUDGING: "workers on the split",
        State.PROMOTING: "by hand",
        **_BACK_LATE,
    },
    State.JUDGING: {
        State.SHIFTING: "another share",
        State.PROMOTING: "not worse or by hand",
        **_BACK_LATE,
    },
    State.PROMOTING: {State.SWITCHING: "all replicas ready", **_BACK, **_GIVEN_UP},
    State.SWITCHING: {
        State.WATCHING: "workers on the new release, the old one stays for a while",
        State.PROMOTED: "workers on the new champion",
        **_BACK,
        **_GIVEN_UP,
    },
    State.WATCHING: {
        State.SWITCHING: "no holdback any more",
        State.PROMOTED: "warm time over",
        **_BACK,
    },
    State.ROLLING_BACK: {State.ROLLED_BACK: "workers on the champion, or silent for too long"},
    State.PROMOTED: {},
    State.ROLLED_BACK: {},
    State.GATE_FAILED: {},
    State.GATES_PASSED: {},
    State.ABORTED: {},
    State.FAILED: {},
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.EVALUATING}", f"    [*] --> {State.QUEUED}"]
    for origin, targets in TRANSITIONS.items():
        lines += [f"    {origin} --> {to}: {why}" for to, why in targets.items()]
        if not targets:
            lines.append(f"    {origin} --> [*]")
    return "\n".join(lines) + "\n"
