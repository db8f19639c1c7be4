"""The live picture of a rollout fits the terminal: what matters least is brief, and then gone."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.text import Text

from cli.test_follow import NUMBERS, view
from fairlead.cli.fitting import LABEL_MAX, Row, fitting
from fairlead.cli.options import plain_console
from fairlead.cli.watch import picture
from fairlead.control.views import GateProgress, HarmView, RolloutView
from fairlead.domain.verdicts import GateOutcome, GateVerdict, RolloutOutcome, RolloutVerdict
from fairlead.rollout.standing import QueryLine


def rate(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "binary", "inverse": False, "promotes": True, "canary_rate": 0.12,
        "champion_rate": 0.1, "e_rollback": 12.5, "e_promote": 1.5, "margin": 0.05,
        "tolerance": 0.01, "ci_low": -0.02, "ci_high": 0.08, "difference": 0.02, **changes,
    }  # fmt: skip


LATENCY = {
    "kind": "latency", "unit": "ms", "inverse": False, "promotes": True, "e_rollback": 2.0,
    "e_promote": 0.1, "margin": 0.25, "tolerance": 0.1, "canary_rate": None, "champion_rate": None,
    "canary_median": 130.0, "champion_median": 120.0,
}  # fmt: skip
OUTCOMES = {
    "failed": {"canary_rate": 0.25, "champion_rate": 0.1, "e_rollback": 31.6, "e_promote": 0.2,
               "margin": 0.02, "tolerance": 0.0},
    "unconfirmed": {name: figure for name, figure in rate().items() if name != "kind"},
    "refusal": rate(),
    "format": rate(ci_low=0.06, ci_high=0.1),
    "solved": rate(ci_low=-0.1, ci_high=0.01),
    "ttft_ms": LATENCY,
}  # fmt: skip


def judged(**changes: Any) -> RolloutView:
    """With feedback and four metrics, everything is said that can be."""
    numbers = {**NUMBERS, "expected_more_units": 1_500, "by_outcome": OUTCOMES}
    made = view(
        verdict=RolloutVerdict(RolloutOutcome.WAIT, "more", numbers), margin=0.02,
        missing="evidence of the count violations: 2.1 of 20 that the canary has not 100% more",
        time_left_s=3_120.0, traffic_since=100.0, created_at=40.0, champion_name="a",
        waiting="replica b-2 is starting: it loads its weights",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def in_terminal(shown: RolloutView, width: int = 80, height: int = 24) -> list[str]:
    console = plain_console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    console.print(picture(shown, 400.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_feedback_and_four_metrics_fit_a_terminal_of_80_by_24() -> None:
    lines = in_terminal(judged())
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for label in ("traffic", "missing", "replicas", "time", "difference", "worse?", "failures",
                  "no good feedback", "refusal", "format", "solved", "ttft_ms"):  # fmt: skip
        assert f"\n│ {label} " in text, text
    assert "evidence of the count violations" in text
    assert "52 min 0 s left until its deadline" in text


def test_what_is_left_out_is_counted_and_what_is_missing_stays() -> None:
    gates = [GateVerdict(f"g{n}", GateOutcome.PASS, "0.91 is above 0.85") for n in range(30)]
    lines = in_terminal(judged(gate_verdicts=gates, harm=HarmView(1.0, 2.0, 20.0)))
    assert len(lines) <= 24
    assert "22 more in a taller window" in lines[-1]
    small = "\n".join(in_terminal(judged(gate_verdicts=gates), height=6))
    assert "missing" in small
    assert "left until its deadline" in small
    assert "refusal" not in small


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [3, 5, 10, 16, 24, 50])
def test_it_is_never_taller_than_the_terminal(width: int, height: int) -> None:
    queries = [QueryLine(f"q{n}", "guard", 1.0, "at most 2", "within", n == 2) for n in range(5)]
    running = [GateProgress("intents", 10, 100, 0.8)]
    lines = in_terminal(judged(queries=queries, gates=running), width, height)
    assert len(lines) <= height
    assert any("missing" in line for line in lines)


def test_where_there_is_room_nothing_is_brief() -> None:
    whole = in_terminal(judged(), 200, 100)
    console = plain_console(file=io.StringIO(), width=200)
    console.print(picture(judged(), 400.0))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == whole
    assert "taller window" not in "\n".join(whole)


def test_a_long_name_of_a_metric_leaves_room_for_its_bar() -> None:
    name = "a_very_long_name_of_a_metric_of_the_clients unconfirmed"
    lines = in_terminal(judged(verdict=RolloutVerdict(
        RolloutOutcome.WAIT, "more", {**NUMBERS, "by_outcome": {name: rate()}}
    )), height=50)  # fmt: skip
    (row,) = [number for number, line in enumerate(lines) if line.startswith("│ a_very_lon…")]
    assert len("a_very_lon…confirmed") == LABEL_MAX
    assert "canary 12.0 %, champion 10.0 %" in lines[row]
    (bar,) = [line for line in lines[row + 1 :] if "better" in line]
    assert bar.rstrip("│ ").endswith("worse")


def test_a_rate_has_its_confidence_sequence_against_its_own_margin() -> None:
    lines = in_terminal(judged(), 200, 100)
    (row,) = [number for number, line in enumerate(lines) if line.startswith("│ format ")]
    assert "evidence: worse 12.50, not worse 1.50" in lines[row]
    drawing = lines[row + 1].partition("better ")[2].rpartition(" worse")[0]
    assert drawing.index("│") < drawing.index("●") < drawing.index("┊") < drawing.index("━")
    said = "canary less champion: +2.0 now, +6.0 to +10.0 with 95% confidence"
    assert f"{said} (percentage points); │ is 0, ┊ the margin +5.0" in lines[row + 2]
    (row,) = [number for number, line in enumerate(lines) if line.startswith("│ ttft_ms ")]
    assert "better" not in lines[row + 1], "an amount has none"


def test_the_highest_rank_is_brief_and_gone_first() -> None:
    rows = [
        Row("a", Text("1\n2\n3"), 0, Text("1")),
        Row("b", Text("1\n2\n3"), 2, Text("1")),
        Row("c", Text("1\n2"), 1),
        Row("d", Text("1\n2\n3"), 2, Text("1")),
    ]

    def lines(what: Any) -> int:
        return str(what).count("\n") + 1

    def shown(most: int) -> str:
        kept = fitting(rows, lines, most)
        return " ".join(f"{row.label}{lines(row.what)}" for row in kept)

    assert shown(11) == "a3 b3 c2 d3"
    assert shown(10) == "a3 b3 c2 d1"
    assert shown(8) == "a3 b1 c2 d1"
    assert shown(6) == "a1 b1 c2 d1"
    assert shown(4) == "a1 b1 c2"
    assert shown(3) == "a1 c2"
    assert shown(0) == "a1"
