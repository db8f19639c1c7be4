"""Whole pages of incidents, as people read them."""

from __future__ import annotations

import re
from pathlib import Path

from fairlead.cli.incidents import listing
from fairlead.control.watching.watch_views import incident_summary
from fairlead.monitoring.postmortem import postmortem
from monitoring.golden_incident import NINE, A, B, bank, bank_page, platform

DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"

OF_THE_PLATFORM = """\
# Incident 1: alerts do not reach bank/pager: events.pagerduty.com: answered 500

| incident | 1 |
| --- | --- |
| services | the platform |
| severity | page |
| state | open |
| began | 2026-01-01 09:00:00 UTC |
| ended | not yet |
| lasted | 10 min |

## Summary

1 alert of the platform, the gravest a page. It has lasted 10 min so far.

## Impact

- How many requests it was about was not counted.
- Noticed by its first alert; since when it was there is not known here.
- Nothing was done about it that is known here.

## What was seen

- **page** alerts do not reach bank/pager: events.pagerduty.com: answered 500 — first seen \
2026-01-01 09:00:00 UTC, firing

## What changed near it

Nothing that could be its cause is known to have changed in the six hours before.

## Timeline

**2026-01-01**

- 09:00:00 alert: notifications bank/pager firing: alerts do not reach bank/pager: \
events.pagerduty.com: answered 500

## What was done

Nothing that is known here.

## Resolution

It is not over.
"""


def test_the_documentation_shows_an_incident_as_it_is_written() -> None:
    page = bank_page()
    shown = "\n".join(f"    {line}".rstrip() for line in page.splitlines())
    assert shown in DOCS.read_text(encoding="utf-8"), page


def test_what_is_told_of_releases_and_times_can_be_read() -> None:
    page = bank_page()
    for digest in (A, B):
        assert digest not in page
        assert digest[7:20] not in page, "no more than twelve digits"
    assert A[7:19] in page
    assert not re.search(r"\d{10}", page.replace(A[7:19], "")), "no time in seconds"
    lines = page.splitlines()
    done = lines[lines.index("## What was done") + 2 : lines.index("## Resolution") - 1]
    assert [line for line in done if "promoted" in line] == [], "that was before"
    assert page.count("burns its error budget") == 1, "the summary is told once"


def test_an_incident_of_no_service_is_one_of_the_platform() -> None:
    assert postmortem(platform(), NINE + 600.0) == OF_THE_PLATFORM
    listed = listing([incident_summary(platform())], NINE)
    assert listed._rows[0][3] == "the platform"


def test_its_title_and_each_line_of_its_timeline_are_short() -> None:
    assert bank().title == "bank: 7.5% of 2,400 requests failed in 1 h"
    assert all(len(event.what) < 160 for event in bank().timeline)
