"""The manifest's `drill` becomes a schedule, and mistakes in it say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli.planning import drills_of
from fairlead.domain.errors import FairleadError
from fairlead.manifest.loading import parse_manifest
from fairlead.rollout.drill import DrillRule

MANIFEST = """service: bank
release:
  model: "openai://provider.example/v1?model=m"
"""


def rule_of(drill: str) -> DrillRule | None:
    path = Path("fairlead.yaml")
    return drills_of(parse_manifest(f"{MANIFEST}{drill}\n", path))


def test_a_schedule_is_read() -> None:
    assert rule_of("") is None
    assert rule_of("drill: {faults: [slow]}") == DrillRule(("slow",))
    given = 'drill: {every: 2d, at: "23:59", faults: [error, toxic], harm: 7, share: 10%}'
    assert rule_of(given) == DrillRule(("error", "toxic"), 2, 1_439, 7, 0.1)


@pytest.mark.parametrize(
    ("drill", "said"),
    [
        ("{}", "faults"),
        ("{faults: []}", "faults"),
        ("{faults: [lazy]}", "faults"),
        ("{faults: [slow], every: 7}", "days"),
        ("{faults: [slow], every: 0d}", "days"),
        ("{faults: [slow], at: '24:00'}", "time of the day"),
        ("{faults: [slow], at: 180}", "time of the day"),
        ("{faults: [slow], harm: 0}", "harm"),
        ("{faults: [slow], share: 80%}", "share"),
        ("{faults: [slow], hram: 3}", "harm"),
        ("{faults: [slow], webhooks: ['http://u:pw@x']}", "without a user in it"),
    ],
)
def test_mistakes_say_what_to_do(drill: str, said: str) -> None:
    with pytest.raises(FairleadError) as caught:
        rule_of(f"drill: {drill}")
    assert said in str(caught.value)
