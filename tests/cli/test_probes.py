"""What people see of probes: the state first, then what was found and what to do."""

from __future__ import annotations

import msgspec
import pytest

from cli.test_follow import drawn
from fairlead.cli.probes import picture, probes_line
from fairlead.control.probing.probe_views import ProbesView, probes_view
from fairlead.probing.course import begin
from fairlead.probing.model import Change, Difference, Note, ProbeRule

RULE = ProbeRule("sha256:" + "cd" * 32, usd_per_day=0.5, on_change="fallback")
PROBING = msgspec.structs.replace(
    begin("bank", "sha256:" + "ab" * 32, "x", 0.0), rounds=30, model="m-1", sent=40, spent_usd=0.25
)
CHANGE = Change(1, 7_200.0, 30, 240.0, {"agreement": 240.0}, "12 of 20 probes", (
    Difference("case-1", "yes", "no"),
), since=3_600.0)  # fmt: skip


def view(held: str = "", trouble: str = "", **changes: object) -> ProbesView:
    return probes_view(
        "a", msgspec.structs.replace(PROBING, **changes), RULE, held, trouble, "champion"
    )


@pytest.mark.parametrize(
    ("shown", "state", "said"),
    [
        (view(), "watching", "30 rounds of 20, evidence of a change 1.00 of 100"),
        (view(rounds=3), "reference", "3 rounds"),
        (view(held="today's are paid"), "held", "today's are paid"),
        (view(failing_since=0.0, failure="not reached"), "failing", "not reached"),
        (view(change=CHANGE), "changed", "an unrequested release, found"),
        (view(trouble="disk full"), "watching", "disk full"),
    ],
)
def test_the_line_says_how_it_is(shown: ProbesView, state: str, said: str) -> None:
    line = drawn(probes_line(shown))
    assert shown.state == state
    assert line.strip().startswith(f"probes {state}")
    assert said in line


def test_a_change_is_shown_with_answers_cost_and_what_to_do() -> None:
    text = drawn(picture(view(change=CHANGE, notes=(Note(0.0, "model: 'm-0' became 'm-1'"),))))
    for said in (
        "unrequested release 1: 12 of 20 probes", "was 'yes'", "now 'no'", "its fallbacks answer",
        "fairlead probes accept bank", "0.2500 of 0.5 USD", "'m-0' became 'm-1'", "it came between",
    ):  # fmt: skip
        assert said in text
