"""What `follow`, `status` and the demo draw from a rollout's view: right, and never an error."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import RenderableType

from fairlead.app.state import STATE_VARIABLE
from fairlead.cli import follow as following
from fairlead.cli.api import ControlClient
from fairlead.cli.demo.report import KillReport, ReleaseReport, Report, RequestsReport
from fairlead.cli.demo.view import DemoView, summary
from fairlead.cli.follow import (
    EXIT_CODES,
    OUTCOME_STYLES,
    evidence_bar,
    exit_code_of,
    follow,
    panel,
    verdict_text,
)
from fairlead.cli.listing import Listing
from fairlead.cli.options import STATE_DEFAULT, ago, number, plain_console, size, state_words, table
from fairlead.cli.rollout import went_back
from fairlead.cli.watch import picture
from fairlead.control.views import GateProgress, RolloutView, ShadowView
from fairlead.domain.errors import NotFound, Unavailable
from fairlead.domain.verdicts import GateOutcome, GateVerdict, RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import numbers_of
from fairlead.rollout.judge import new_judge
from fairlead.rollout.machine import is_terminal, new_rollout
from fairlead.rollout.plan import Plan
from fairlead.rollout.states import State

NUMBERS: dict[str, Any] = {
    "champion": {"units": 1200, "rate": 0.1},
    "canary": {"units": 300, "rate": 0.25},
    "e_rollback": 31.6, "threshold_rollback": 100.0, "e_promote": 0.2, "threshold_promote": 20.0,
    "difference": 0.15, "ci_low": 0.05, "ci_high": 0.25,
}  # fmt: skip


def view(**changes: Any) -> RolloutView:
    made = RolloutView(
        id="ro-1", service="bank", release="sha256:" + "ab" * 32, name="b", champion="sha256:c",
        state="judging", outcome="running", paused=False, step=0, steps=2, share=0.25,
        reason="", created_at=0.0, updated_at=0.0, served=1234, gates=[], gate_verdicts=[],
        verdict=None, history=[],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_the_pairs_of_a_shadow_are_shown_with_their_evidence() -> None:
    shadow = ShadowView(
        0.25,
        50,
        40,
        9,
        live_failed=1,
        late=3,
        slower=12,
        timed=30,
        e_worse=31.5,
        e_not_worse=0.01,
        units=38,
        unknown=2,
    )
    for shown in (
        drawn(panel(view(state="shadowing", shadow=shadow))),
        drawn(picture(view(state="shadowing", shadow=shadow), 400.0)),
    ):
        assert "40 pairs from 38 units of 50; failed: 9 only the copy" in shown
        assert ", 1 only the live request" in shown
        assert "3 not counted, both too late; 2 given up on a side" in shown
        assert "evidence worse 31.50 of 100, not worse 0.01 of 20" in shown
        assert "slower in 40% of 30 pairs (not judged" in shown


def drawn(thing: RenderableType, width: int = 200) -> str:
    console = plain_console(file=io.StringIO(), width=width)
    console.print(thing)
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def test_a_canary_is_drawn_with_its_split_and_its_evidence() -> None:
    text = drawn(panel(view(verdict=RolloutVerdict(RolloutOutcome.WAIT, "more", NUMBERS))))
    assert "step 1/2   canary 25%  champion 75%   1,234 requests served" in text
    assert "1,200 units, 10.0% failed" in text
    assert "300 units, 25.0% failed" in text
    assert "evidence 31.60 of 100" in text
    assert "evidence 0.20 of 20" in text


def test_what_a_starting_replica_says_is_shown_while_it_is_waited_for() -> None:
    said = "replica remote-ab starting: probe: [Errno 111] refused"
    starting = view(state="starting", share=0.0, waiting=said)
    assert said in drawn(panel(starting))
    assert said not in drawn(panel(msgspec.structs.replace(starting, outcome="failed")))


def test_a_gate_is_a_bar_first_and_then_its_verdict() -> None:
    progress = GateProgress("quality", 30, 120, 0.75)
    running = drawn(panel(view(state="evaluating", share=0.0, gates=[progress])))
    assert "30/120 cases, mean 0.750" in running
    assert "requests served" not in running
    verdict = GateVerdict("quality", GateOutcome.INCONCLUSIVE, "too few cases")
    decided = drawn(panel(view(share=0.0, gates=[progress], gate_verdicts=[verdict])))
    assert "gate quality inconclusive  too few cases" in decided
    assert "30/120" not in decided


def test_the_end_is_said_with_its_reason() -> None:
    text = drawn(panel(view(outcome="rolled_back", share=0.0, reason="canary fails [25 %]")))
    assert "rolled back: canary fails [25 %]" in text


def test_a_verdict_in_words_has_its_difference_and_interval() -> None:
    told = drawn(verdict_text(RolloutVerdict(RolloutOutcome.ROLL_BACK, "worse", NUMBERS)))
    assert "verdict roll_back: worse" in told
    assert "difference canary - champion +15.0%, between +5.0% and +25.0% with 95%" in told


def test_a_verdict_before_any_unit_is_drawn_too() -> None:
    """The numbers that the judge gives before it has seen anything."""
    numbers = numbers_of(new_judge(Plan()), Plan())
    verdict = RolloutVerdict(RolloutOutcome.WAIT, "nothing yet", numbers)
    assert "nothing yet" in drawn(verdict_text(verdict))
    assert "0 units" in drawn(panel(view(verdict=verdict)))


@pytest.mark.parametrize(
    ("value", "threshold", "share"),
    [(0.0, 100.0, 0.0), (1.0, 100.0, 0.0), (10.0, 100.0, 0.5), (100.0, 100.0, 1.0),
     (1e300, 20.0, 1.0), (0.5, 1.0, 1.0)],
)  # fmt: skip
def test_evidence_is_drawn_on_a_logarithmic_scale(
    value: float, threshold: float, share: float
) -> None:
    assert evidence_bar(value, threshold, "red").completed == pytest.approx(share)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 1e300), st.floats(0.01, 1e12), st.floats(0, 1), st.integers(0, 10**9),
    st.text(max_size=40), st.integers(20, 200),
)  # fmt: skip
def test_whatever_is_measured_can_be_drawn(
    e: float, threshold: float, share: float, units: int, text: str, width: int
) -> None:
    numbers = {**NUMBERS, "e_rollback": e, "threshold_promote": threshold,
               "canary": {"units": units, "rate": None}}  # fmt: skip
    verdict = RolloutVerdict(RolloutOutcome.WAIT, text, numbers)
    gate = GateProgress(text, units, 0, share)
    drawn(panel(view(share=share, verdict=verdict, gates=[gate], name=text, reason=text)), width)
    drawn(verdict_text(verdict), width)


def test_every_end_of_a_rollout_has_an_exit_code_and_a_style() -> None:
    rollout = new_rollout(
        id="r", service="s", release="x", name="x", champion=None, plan=Plan(), gates=0, now=0.0
    )
    ends = {s.value for s in State if is_terminal(msgspec.structs.replace(rollout, state=s))}
    assert set(EXIT_CODES) == set(OUTCOME_STYLES) == ends
    assert {end for end in ends if exit_code_of(view(outcome=end)) == 0} == {
        "promoted", "gates_passed",
    }  # fmt: skip
    assert exit_code_of(view(outcome="gate_failed")) == 3
    assert exit_code_of(view(outcome="rolled_back")) == 4


class Answers:
    """A control that gives these answers, one after the other."""

    def __init__(self, *answers: RolloutView | BaseException) -> None:
        self._answers = list(answers)

    def get(self, _kind: type, *_path: str) -> RolloutView:
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ControlClient]:
    monkeypatch.setattr(following.time, "sleep", lambda _seconds: None)
    return lambda *given: Answers(*given)  # type: ignore[return-value]


@pytest.mark.parametrize("quiet", [True, False])
def test_following_survives_a_restart_of_control(
    answers: Callable[..., ControlClient], quiet: bool
) -> None:
    away = Unavailable("control does not answer")
    end = view(outcome="promoted")
    control = answers(view(), away, away, view(), away, end)
    assert follow(control, "ro-1", quiet=quiet) is end


def test_following_ends_when_control_stays_away(
    answers: Callable[..., ControlClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(following.time, "monotonic", lambda: float(next(clock)))
    control = answers(view(), *[Unavailable("gone")] * 20)
    with pytest.raises(Unavailable, match="gone"):
        follow(control, "ro-1", quiet=True)


def test_following_what_is_not_there_is_not_found(answers: Callable[..., ControlClient]) -> None:
    with pytest.raises(NotFound):
        follow(answers(NotFound("no rollout")), "ro-1", quiet=True)


def test_ctrl_c_says_that_the_rollout_goes_on_and_what_to_type(
    answers: Callable[..., ControlClient], capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        with pytest.raises(KeyboardInterrupt):
            follow(answers(view(), KeyboardInterrupt()), "ro-1", quiet=quiet, state=Path("a b"))
        told = capsys.readouterr().err
        assert "ro-1 goes on without this terminal" in told
        assert "fairlead rollout follow ro-1 --state 'a b'\n" in told
        assert "fairlead rollout abort ro-1 --state 'a b'\n" in told


def test_outside_a_terminal_the_last_line_has_its_end(
    answers: Callable[..., ControlClient], capsys: pytest.CaptureFixture[str]
) -> None:
    follow(answers(view(outcome="promoted", reason="as it is")), "ro-1")
    assert capsys.readouterr().out.endswith("promoted: as it is\n")


def test_a_command_names_the_state_folder_only_where_it_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    assert state_words(STATE_DEFAULT) == ""
    assert state_words(Path("x")) == " --state x"
    monkeypatch.setenv(STATE_VARIABLE, "x")
    assert state_words(Path("x")) == ""


REASON = (
    "0 of 212 right, 0% (95% interval 0% to 1.7%): below the minimum 60%; -84.4 points against "
    "the champion on the same 212 cases; such as case 00b324d720822132, 0120322cca4fd3fb"
)


def gate_failed() -> RolloutView:
    verdict = GateVerdict("intents", GateOutcome.FAIL, REASON, {})
    return view(
        name="d", state="gate_failed", outcome="gate_failed", share=0.0, gate_verdicts=[verdict],
        reason=f"gate intents: fail: {REASON}",
    )  # fmt: skip


def test_a_gate_s_reason_is_told_once() -> None:
    text = drawn(panel(gate_failed()), 400)
    assert text.count("below the minimum") == 1
    assert text.rstrip().endswith("gate failed: gate intents: fail")


def test_the_demo_tells_a_reason_in_full_in_its_summary_alone() -> None:
    """Nothing of it scrolls out, and no line of the story is folded."""
    demo = DemoView()
    for _ in range(7):
        demo.tell("something " * 20)
    demo.ended(gate_failed())
    lines = drawn(demo, 80).splitlines()
    assert "case 00b3" not in "\n".join(lines)
    story = lines[next(at for at, line in enumerate(lines) if "what happened" in line) + 1 : -1]
    assert len(story) == 8
    assert "release d: gate failed: 0 of 212 right, 0%: below the minimum 60%" in story[-1]
    release = ReleaseReport("d", "sha256:" + "ab" * 32, "gate_failed", 0, REASON, [], None)
    report = Report([release], RequestsReport(1, 0, 0, []), None, 1.0, 1.0)
    assert REASON in drawn(summary(report, "fairlead"), 300)


def records_table() -> Listing:
    shown = table("=request", "=when", "service", ">ms", "error", gives_way=("ms", "service"))
    shown.add_row("req_" + "0" * 40, "12 s ago", "banking", "12.5", "upstream rejected it")
    return shown


def test_a_table_leaves_columns_out_rather_than_break_ids() -> None:
    narrow = drawn(records_table(), 80)
    assert f"req_{'0' * 40}  12 s ago" in narrow
    assert "12.5" not in narrow
    assert "left out at this width: ms" in narrow
    wide = drawn(records_table(), 120)
    assert "12.5" in wide
    assert "left out" not in wide


def test_a_column_may_be_cut_to_one_line() -> None:
    shown = table("=rollout", "~reason")
    shown.add_row("ro-12345678", "many words\n" * 20)
    _, row = drawn(shown, 40).rstrip().splitlines()
    assert row.startswith("ro-12345678  many words many words")
    assert row.endswith("…")


def test_the_demo_s_view_draws_what_there_is() -> None:
    demo = DemoView()
    assert "starting fairlead" in drawn(demo)
    demo.tell("release a: built [x]", style="green")
    demo.ended(view(outcome="promoted", reason="first release"))
    text = drawn(demo, 118)
    assert "release a: built [x]" in text
    assert "promoted: first release" in text


def test_the_summary_counts_what_was_lost_and_says_what_to_type() -> None:
    releases = [ReleaseReport("a", "sha256:" + "ab" * 32, "promoted", 1500, "why", [], None)]
    report = Report(
        releases, RequestsReport(2000, 3, 0, []), KillReport("r", 5, 0, 1.25), 61.0, 512.0
    )
    text = drawn(summary(report, "fairlead"))
    assert "2,000 requests sent, 3 lost" in text
    assert "1,500" in text
    assert "abababababab" in text
    assert "fairlead ship" in text


def test_figures_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [size(n) for n in (5, 1500, 2.5e6, 7e12)] == ["5 B", "1.5 kB", "2.5 MB", "7000.0 GB"]
    assert [number(None), number(1234.56), number(0.98765, 3)] == ["–", "1,234.6", "0.988"]
    monkeypatch.setattr("fairlead.cli.options.time.time", lambda: 200_000.0)
    assert [ago(200_000 - s) for s in (-5, 5, 90, 7200, 172_800)] == [
        "0 s ago", "5 s ago", "2 min ago", "2 h ago", "2 d ago",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("goes_back", "good"), [(True, {"promoted"}), (False, {"rolled_back", "aborted"})]
)
def test_going_back_has_worked_when_the_earlier_release_serves(
    goes_back: bool, good: set[str]
) -> None:
    """A release that cannot be brought back is no success, though its rollout was rolled back."""
    worked = {end for end in EXIT_CODES if went_back(view(outcome=end, goes_back=goes_back))}
    assert worked == good
