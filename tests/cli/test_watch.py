"""The live picture of a rollout, and the explanation of its end: right, and never an error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.test_follow import NUMBERS, drawn, view
from fairlead.cli import watch as watching
from fairlead.cli.api import ControlClient
from fairlead.cli.explain import explanation, strata_table
from fairlead.cli.options import STATE_DEFAULT
from fairlead.cli.status import watch_words
from fairlead.cli.watch import find, picture, watch
from fairlead.control.views import HarmView, RolloutView, WatchView
from fairlead.domain.errors import NotFound
from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.endings import ADVICE, Ending
from fairlead.rollout.standing import QueryLine
from fairlead.rollout.states import State

MORE = {**NUMBERS, "expected_more_units": 1_500, "ci_confidence": 0.95}


def judged(**changes: Any) -> RolloutView:
    """A canary at a quarter of the traffic, 300 seconds after it began to have any."""
    made = view(
        verdict=RolloutVerdict(RolloutOutcome.WAIT, "more", MORE), margin=0.02,
        missing="too few units: 45 of 100", time_left_s=3_120.0, traffic_since=100.0,
        created_at=40.0, champion_name="a",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def lines_of(shown: RolloutView) -> dict[str, list[str]]:
    """The lines beside each label, without the frame."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in drawn(picture(shown, 400.0)).splitlines()[1:-1]:
        text = line.strip("│ ").rstrip()
        head, _, rest = text.partition("  ")
        if line[2:3] != " ":
            label, text = head, rest.strip()
        found.setdefault(label, []).append(text)
    return found


def test_a_ramp_s_harm_is_drawn_against_its_budget() -> None:
    lines = lines_of(judged(harm=HarmView(10.0, 20.0, 40.0), share=0.005))
    assert lines["harm"][0] == "█" * 12 + "▒" * 12 + "░" * 24
    assert lines["harm"][1].startswith("about 10.0 requests may have failed because of it")
    assert "canary b 0.5%" in lines["traffic"][1]
    worse = lines_of(judged(harm=HarmView(90.0, 99.0, 40.0)))
    assert worse["harm"][0] == "█" * 48


def test_the_picture_says_who_gets_what_and_what_is_missing() -> None:
    lines = lines_of(judged())
    assert lines["traffic"][0] == "█" * 36 + "▒" * 12
    assert "champion a 75%   canary b 25%" in lines["traffic"][1]
    assert lines["failures"][0].startswith("champion 10.0% of 1,200 units   canary 25.0% of 300")
    assert lines["missing"] == ["too few units: 45 of 100"]
    assert lines["time"] == [
        "6 min 0 s since its beginning",
        "about 1,500 more units to a verdict, 5 min 0 s at the present rate",
        "52 min 0 s left until its deadline",
    ]


def test_evidence_is_a_bar_with_its_number_and_its_consequence() -> None:
    lines = lines_of(judged())
    assert lines["worse?"][0].count("█") == 36
    assert lines["worse?"][1] == (
        "evidence that it is worse: 31.60 (1 is none); it is rolled back at 100"
    )
    assert lines["not worse?"][0] == "░" * 48
    assert lines["not worse?"][1] == (
        "evidence that it is not: 0.20 (1 is none); a promotion needs 20"
    )


def test_the_early_judge_is_shown_though_the_judge_model_has_said_nothing() -> None:
    early = {"e_rollback": 20.0, "threshold_rollback": 200.0, "requests_seen": 90}
    numbers = {"canary": {"units": 0}, "champion": {"units": 0}, "early": early}
    verdict = RolloutVerdict(RolloutOutcome.WAIT, "no canary unit has settled yet", numbers)
    lines = lines_of(judged(verdict=verdict))
    assert "worse?" not in lines
    assert lines["early: worse?"][0].count("█") == 27
    assert lines["early: worse?"][1] == (
        "evidence without the judge model: 20.00 (1 is none); it is rolled back at 200"
    )


def test_the_difference_is_drawn_against_zero_and_the_margin() -> None:
    bar, words = lines_of(judged())["difference"]
    assert bar.startswith("better")
    assert bar.endswith("worse")
    drawing = bar.removeprefix("better ").removesuffix(" worse")
    assert len(drawing) == 48
    assert drawing.index("│") < drawing.index("┊") < drawing.index("━") < drawing.index("●")
    assert words == (
        "canary less champion: +15.0 now, +5.0 to +25.0 with 95% confidence (percentage points); "
        "│ is 0, ┊ the margin +2.0"
    )


def test_a_rollout_without_a_canary_yet_shows_no_evidence() -> None:
    early = judged(state="starting", share=0.0, verdict=None, waiting="replica x starting: loads")
    lines = lines_of(early)
    assert set(lines) == {"traffic", "missing", "replicas", "time"}
    assert lines["replicas"] == ["replica x starting: loads"]


def test_the_explanation_of_a_rollback_gives_rates_evidence_and_its_meaning() -> None:
    verdict = RolloutVerdict(
        RolloutOutcome.ROLL_BACK, "canary fails", {**MORE, "e_rollback": 312.0}
    )
    ended = judged(
        outcome="rolled_back", state="rolled_back", ending="worse", reason="canary fails",
        verdict=verdict, advice="mend it",
    )  # fmt: skip
    assert drawn(explanation(ended)).splitlines() == [
        "ROLLED BACK: all traffic goes to the champion a again",
        "  Release b (abababababab) failed 25.0 % of 300 units, the champion a 10.0 % of 1,200 "
        "units (a unit is a session, user or key).",
        "  Chance left out, the release fails between 5 and 25 percentage points more often (95% "
        "confidence, however often one looks).",
        "  The evidence that it is worse (1 is none) reached 312; 100 were needed. A release as "
        "good as the champion gets there in fewer than 1 of 100 rollouts.",
        "  What to do: mend it.",
    ]


def test_the_explanation_of_another_end_gives_its_reason_and_its_advice() -> None:
    ended = judged(
        outcome="rolled_back", ending="no_traffic", reason="inconclusive: no traffic",
        advice=ADVICE[Ending.NO_TRAFFIC],
    )  # fmt: skip
    text = drawn(explanation(ended))
    assert "  Inconclusive: no traffic.\n" in text
    assert "What to do: no verdict on the release: send traffic" in text
    assert "percentage points" not in text


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize(
    "outcome", ["promoted", "rolled_back", "failed", "aborted", "gate_failed", "gates_passed"]
)
def test_every_end_can_be_explained(ending: Ending, outcome: str) -> None:
    ended = judged(outcome=outcome, ending=ending.value, reason="", champion=None, champion_name="")
    assert len(drawn(explanation(ended)).splitlines()) >= 2


@given(
    st.sampled_from(list(State)), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1),
    st.floats(0, 1e300), st.integers(0, 10**9), st.floats(0, 1e9), st.text(max_size=30),
)  # fmt: skip
def test_whatever_is_the_case_can_be_drawn(
    state: State, one: float, other: float, share: float, e: float, more: int, now: float, text: str
) -> None:
    numbers = {**MORE, "ci_low": min(one, other), "ci_high": max(one, other), "difference": one,
               "e_rollback": e, "e_promote": e, "expected_more_units": more}  # fmt: skip
    verdict = RolloutVerdict(RolloutOutcome.WAIT, text, numbers)
    drawn(picture(judged(state=state.value, share=share, verdict=verdict, missing=text), now))


class Control:
    """A control that gives these answers, one after the other, or raises them."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def get(self, _kind: Any, *_path: str, **_query: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, NotFound):
            raise answer
        return answer


def as_client(control: Control) -> ControlClient:
    return control  # type: ignore[return-value]


def test_a_service_stands_for_its_rollout_under_way() -> None:
    queued, running = view(id="ro-2", state="queued"), view(id="ro-1")
    assert find(as_client(Control([queued, running], running)), "bank") == running
    for known in ("ro-7", "ev-7", "dr-7"):
        assert find(as_client(Control(view(id=known))), known).id == known
    with pytest.raises(NotFound, match="no rollout under way of a service 'bank'"):
        find(as_client(Control([view(outcome="promoted")])), "bank")


@pytest.mark.parametrize("service", ["ro-bots", "dr-who", "ev-cars"])
def test_a_service_may_be_called_like_an_id(service: str) -> None:
    running, none = view(id="ro-1"), NotFound(f"there is no rollout {service!r}")
    assert find(as_client(Control(none, [running], running)), service) == running
    with pytest.raises(NotFound, match=f"no rollout '{service}', and none under way of"):
        find(as_client(Control(none, [])), service)


def test_watching_ends_with_the_explanation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "WATCH_S", 0.0)
    ended = judged(outcome="promoted", state="promoted", ending="promoted", reason="by hand")
    control = as_client(Control(judged(), judged(share=0.5), ended))
    assert watch(control, "ro-1", state=STATE_DEFAULT) == ended
    out = capsys.readouterr().out
    assert "PROMOTED: release b" in out
    assert "By hand." in out


def test_a_slow_watch_is_told_in_a_line_and_its_alarm_in_words() -> None:
    watched = WatchView("ro-1", "sha256:b", 0.04, "declared", 0.0, 1_200, 0.021, 3.4, 100.0)
    text = "".join(part if isinstance(part, str) else part[0] for part in watch_words(watched))
    assert text.strip() == (
        "slow watch: failures 2.1 % of 1,200 units, limit 4 % (evidence 3.4 of 100)"
    )
    raised = msgspec.structs.replace(watched, alarmed_at=1.0, alarm="it fails", went_back="ro-2")
    ((text, style),) = watch_words(raised)
    assert (text, style) == ("  ALARM: it fails; goes back by ro-2", "bold red")
    stuck = msgspec.structs.replace(raised, went_back="it could not go back: no")
    assert watch_words(stuck)[0][0].endswith("it fails; it could not go back: no")


LATENCY = {
    "kind": "latency", "unit": "ms", "inverse": False, "promotes": True, "e_rollback": 240.0,
    "e_promote": 0.1, "canary_rate": None, "champion_rate": None, "canary_median": 180.0,
    "champion_median": 120.0,
}  # fmt: skip
FAILED = {"canary_rate": 0.1, "champion_rate": 0.1, "e_rollback": 1.2, "e_promote": 3.0}


def test_each_metric_has_its_line_and_the_one_that_decided_is_named() -> None:
    numbers = {**MORE, "by_outcome": {"failed": FAILED, "ttft_ms": LATENCY}}
    verdict = RolloutVerdict(RolloutOutcome.ROLL_BACK, "worse", numbers)
    lines = lines_of(judged(verdict=verdict))
    assert lines["ttft_ms"][0].startswith("canary slower, median 180 ms against 120 ms")
    ended = judged(verdict=verdict, outcome="rolled_back", ending="worse", reason="worse")
    told = " ".join(drawn(explanation(ended)).split())
    assert (
        "Most of the evidence comes from ttft_ms: canary slower, median 180 ms against 120 ms, "
        "evidence 240." in told
    )


def test_each_query_has_its_last_value_beside_its_threshold() -> None:
    queries = [
        QueryLine("load", "guard", 0.95, "at most 0.9", "0.95 is not at most 0.9", True),
        QueryLine("bad", "count", 3.2, "evidence below 200", "canary 4 in 90 requests", False),
        QueryLine("[up]", "guard", None, "at least 1", "no data", True),
    ]
    lines = lines_of(judged(queries=queries))
    assert lines["guard"] == [
        "load  0.95 (at most 0.9)  0.95 is not at most 0.9",
        "[up]  – (at least 1)  no data",
    ]
    assert lines["count"] == ["bad  evidence 3.2 (evidence below 200)  canary 4 in 90 requests"]


def test_strata_of_risk_are_listed_and_the_one_where_it_shows_most_is_named() -> None:
    strata = [
        {"name": "easy", "canary_units": 1_200, "canary_rate": 0.02, "champion_units": 4_000,
         "champion_rate": 0.01},
        {"name": "[hard]", "canary_units": 100, "canary_rate": 0.5, "champion_units": 300,
         "champion_rate": 0.25},
        {"name": "unknown", "canary_units": 0, "canary_rate": None, "champion_units": 3,
         "champion_rate": 0.0},
    ]  # fmt: skip
    outcomes = {"failed": {"e_rollback": 200.0, "e_promote": 0.1, "stratum": "[hard]"}}
    numbers = {**MORE, "by_outcome": outcomes, "by_stratum": strata}
    verdict = RolloutVerdict(RolloutOutcome.ROLL_BACK, "worse", numbers)
    ended = judged(verdict=verdict, outcome="rolled_back", ending="worse", reason="worse")
    told = " ".join(drawn(explanation(ended)).split())
    assert (
        "It shows most among requests of the stratum '[hard]': the canary failed 50.0 % of 100 "
        "units, the champion failed 25.0 % of 300 units." in told
    )
    shown = [line.split() for line in drawn(strata_table(strata)).splitlines()]
    assert ["easy", "1,200", "2.0", "%", "4,000", "1.0", "%"] in shown
    assert ["unknown", "0", "–", "3", "0.0", "%"] in shown
    slow = {"e_rollback": 900.0, "e_promote": None, "kind": "latency", "inverse": False,
            "canary_median": 9.0, "champion_median": 3.0}  # fmt: skip
    for changed in (
        {"by_stratum": strata[1:2]},  # there is nothing to tell it from
        {"by_outcome": {**outcomes, "ttft": slow}},  # failures have not led to it
        {"by_outcome": {"failed": {"e_rollback": 200.0, "e_promote": 0.1}}},  # of an older build
    ):
        told_of = msgspec.structs.replace(verdict, numbers={**numbers, **changed})
        assert "stratum" not in drawn(explanation(msgspec.structs.replace(ended, verdict=told_of)))
