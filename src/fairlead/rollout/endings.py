"""How a rollout can end, by name, and what a person does about it."""

from __future__ import annotations

import enum


class Ending(enum.StrEnum):
    """Why a rollout ended. The last state says where the traffic is, this says why."""

    PROMOTED = "promoted"
    GATES_PASSED = "gates_passed"
    GATE_FAILED = "gate_failed"
    GATES_UNFINISHED = "gates_unfinished"
    WORSE = "worse"
    HARM_BUDGET = "harm_budget"
    INVALID_SPLIT = "invalid_split"
    INCONCLUSIVE = "inconclusive"
    NO_TRAFFIC = "no_traffic"
    NO_FEEDBACK = "no_feedback"
    JUDGE_BUDGET = "judge_budget"
    JUDGE_UNREACHABLE = "judge_unreachable"
    NO_DATA = "no_data"
    SHADOW_FAILED = "shadow_failed"
    REPLICAS_FAILED = "replicas_failed"
    REPLICAS_NEVER_READY = "replicas_never_ready"
    GATEWAY_UNREACHABLE = "gateway_unreachable"
    GUARD_CROSSED = "guard_crossed"
    GUARD_WITHOUT_DATA = "guard_without_data"
    PROMETHEUS_UNREACHABLE = "prometheus_unreachable"
    SUITE_UNANSWERED = "suite_unanswered"
    HOOK_REFUSED = "hook_refused"
    HOOK_UNREACHABLE = "hook_unreachable"
    NOT_APPROVED = "not_approved"
    DRILL_MISSED = "drill_missed"
    DRILL_SPENT = "drill_spent"
    SUPERSEDED = "superseded"
    ABORTED = "aborted"


ADVICE: dict[Ending, str] = {
    Ending.PROMOTED: "",
    Ending.GATES_PASSED: "ship it",
    Ending.GATE_FAILED: "look at the cases that failed (`fairlead eval`), mend the release, and "
    "ship it again",
    Ending.GATES_UNFINISHED: "look at the replicas (`fairlead status`), or raise "
    "rollout.gates_hours; what was answered is kept, so shipping it again goes on from there",
    Ending.WORSE: "the champion serves; compare the answers (`fairlead records --rollout ID`), "
    "mend the release, and ship it again",
    Ending.HARM_BUDGET: "no verdict on the release, but it may have cost what it was allowed to: "
    "compare the answers (`fairlead records --rollout ID`); if it is good, raise "
    "rollout.ramp.harm_budget, and ship it again",
    Ending.INVALID_SPLIT: "no verdict on the release: units did not go where they were logged to "
    "go; look for clients that change their session, or for records that were lost",
    Ending.INCONCLUSIVE: "no verdict on the release: give it more traffic, a longer "
    "rollout.deadline_minutes or a larger rollout.margin, and ship it again",
    Ending.NO_TRAFFIC: "no verdict on the release: send traffic to the service, or raise the first "
    "step's share, and ship it again",
    Ending.NO_FEEDBACK: "no verdict on the release: clients have to post the feedback that "
    "rollout.feedback names within settle_seconds; or set required: false",
    Ending.JUDGE_BUDGET: "no verdict on the release: raise judge.budget, or judge fewer samples "
    "(judge.share) of more traffic, and ship it again",
    Ending.JUDGE_UNREACHABLE: "no verdict on the release: make the judge model answer (`fairlead "
    "status` names what keeps it), or let it keep up: a larger judge.concurrency, a smaller "
    "judge.share; and ship it again",
    Ending.NO_DATA: "no verdict on the release: a metric of rollout.metrics has no values on most "
    "units; look at what it is taken from (`fairlead records --rollout ID --json`), or declare it "
    "with needed_to_promote: false",
    Ending.SHADOW_FAILED: "no client has met it; look at its copies (`fairlead records --rollout "
    "ID`), mend the release, and ship it again",
    Ending.REPLICAS_FAILED: "read the replica's own words above, and `fairlead doctor`",
    Ending.REPLICAS_NEVER_READY: "is there room for its replicas? see `fairlead status`; raise "
    "rollout.ready_minutes if they only need longer",
    Ending.GATEWAY_UNREACHABLE: "the gateway's workers did not take over the split: see "
    "`fairlead status` and the log of the gateway, then ship it again",
    Ending.GUARD_CROSSED: "the champion serves; a guard is a threshold and no proof: look at its "
    "query in Prometheus over the time of the rollout, mend the release or the threshold, and ship "
    "it again",
    Ending.GUARD_WITHOUT_DATA: "no verdict on the release: see why the guard's query has no data "
    "in Prometheus (are the canary's replicas scraped?); or set no_data: hold",
    Ending.PROMETHEUS_UNREACHABLE: "no verdict on the release: make Prometheus answer the queries "
    "of rollout.prometheus (url, token, query), or raise unreachable_minutes, and ship it again",
    Ending.SUITE_UNANSWERED: "no verdict on the release: see why its replicas, or the champion's, "
    "answer no case of the suite (`fairlead status`), and ship it again",
    Ending.HOOK_REFUSED: "ask those who run the hook why it refused, and ship it again",
    Ending.HOOK_UNREACHABLE: "make the hook answer, or take it out of rollout.hooks",
    Ending.NOT_APPROVED: "nobody approved it in time: ship it again when somebody can",
    Ending.DRILL_MISSED: "a bad release would have been promoted: see what rollout.feedback and "
    "rollout.metrics measure of such a fault (docs/drills.md), and drill again",
    Ending.DRILL_SPENT: "nothing was noticed within the harm budget: a smaller rollout.margin or "
    "more metrics would see it sooner; or give the drill a larger harm budget",
    Ending.SUPERSEDED: "follow the release that took its place",
    Ending.ABORTED: "",
}
"""What to do about each; empty where nothing is."""

DRILL_ADVICE: dict[Ending, str] = {
    Ending.INVALID_SPLIT: "it says nothing: units did not go where they were logged to go; look "
    "for clients that change their session, or for records that were lost, and drill again",
    Ending.INCONCLUSIVE: "nothing was noticed in time: a larger share (drill.share), a longer "
    "rollout.deadline_minutes or more rollout.metrics would show more",
    Ending.NO_TRAFFIC: "it says nothing, since nobody has met it: drill when the service has "
    "traffic (drill.at), or with a larger share (drill.share)",
    Ending.NO_FEEDBACK: "nothing was noticed, since clients do not post the feedback that "
    "rollout.feedback names within settle_seconds; or declare metrics that need none "
    "(rollout.metrics)",
    Ending.JUDGE_BUDGET: "it says nothing, since the judge model could not be asked: raise "
    "judge.budget, or judge fewer samples (judge.share) of more traffic, and drill again",
    Ending.JUDGE_UNREACHABLE: "it says nothing, since the judge model was away or too slow "
    "(`fairlead status` names what keeps it): a larger judge.concurrency or a smaller judge.share "
    "lets it keep up; then drill again",
    Ending.NO_DATA: "nothing was noticed, since a metric of rollout.metrics has no values on most "
    "units: look at what it is taken from (`fairlead records --rollout ID --json`)",
    Ending.REPLICAS_FAILED: "it says nothing: the champion's own replicas failed meanwhile; see "
    "`fairlead status` and `fairlead doctor`",
    Ending.REPLICAS_NEVER_READY: "it says nothing: the champion has no replica that is ready; see "
    "`fairlead status`",
    Ending.GATEWAY_UNREACHABLE: "it says nothing: the gateway's workers did not take over the "
    "split; see `fairlead status` and the log of the gateway",
    Ending.SUPERSEDED: "it says nothing: something else began meanwhile; drill again after it",
    Ending.DRILL_MISSED: ADVICE[Ending.DRILL_MISSED],
    Ending.DRILL_SPENT: ADVICE[Ending.DRILL_SPENT],
}
"""What to do about the end of a drill: its release is bad, and nobody ships it again."""
