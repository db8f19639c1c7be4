"""What people see of drills: the result first, then who met it and what to do."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.cli.drill import drill_lines, report
from fairlead.control.drill.drill_views import DrillsView, DrillView
from fairlead.domain.fault import Fault

CAUGHT = DrillView(
    id="dr-1", service="bank", fault=Fault("error"), shadow=False, share=0.05, harm=20,
    scheduled=False, result="caught", state="rolled_back", reason="it fails", advice="",
    by="failed", requests=9, users=8, copies=0, seconds=41.0, expected_requests=14, created_at=0.0,
)  # fmt: skip
MISSED = msgspec.structs.replace(
    CAUGHT, result="missed", by="", advice="look at what is measured", reason="missed: nothing"
)


def test_a_report_says_by_what_how_fast_and_at_which_price(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report(CAUGHT)
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("caught by failed after 41.0 s 9 requests of 8 users met it, of 20")
    assert "two margins is 14" in text
    report(MISSED)
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("missed after 41.0 s")
    assert "what to do: look at what is measured" in text


def test_in_shadow_nobody_met_it(capsys: pytest.CaptureFixture[str]) -> None:
    report(msgspec.structs.replace(CAUGHT, shadow=True, copies=77, requests=0, users=0))
    assert "77 copies met it, and no client" in capsys.readouterr().out


def test_a_missed_drill_is_an_alarm_in_the_status() -> None:
    said = "drill error missed after 20 requests of 20 users, 9 s: missed: nothing"
    view = DrillsView(None, 864_000.0, said, {"error": said})
    first, *rest = drill_lines(view)
    assert first.plain == f"  ALARM: {said}"
    assert [line.plain for line in rest] == ["  next drill 1970-01-11 00:00 UTC"]
    running = drill_lines(DrillsView(CAUGHT, None, "", {}))
    assert [line.plain for line in running] == ["  drill dr-1: error, under way"]
