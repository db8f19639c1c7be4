"""A provider that changed between two rounds of probes is a cause of what began meanwhile."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from control.test_probes import RELEASE, Place, place
from fairlead.control.acting.changes import change_of, event_of
from fairlead.control.probing.probe_events import ACCEPTED
from fairlead.monitoring.alerts import observe
from fairlead.monitoring.causes import Change
from fairlead.store.rows import EventRow
from monitoring.making import condition

assert place
HOUR_S = 3_600.0
REFUSALS = condition("refusals", release=RELEASE)
SEEN = {("refusals", "bank")}


def told(place: Place) -> list[EventRow]:
    return place.store.events("bank", limit=1_000)


def changes(place: Place) -> list[Change]:
    return [change for row in told(place) if (change := change_of(row)) is not None]


async def changed(place: Place, on_change: Literal["alert", "fallback"] = "alert") -> float:
    """A provider that is probed every hour answers otherwise; when it was last as before."""
    place.rule = msgspec.structs.replace(
        place.rule, interval_s=HOUR_S, reference_rounds=24, on_change=on_change
    )
    await place.rounds(30)
    place.provider.answer = lambda text: "something else"
    as_before = place.now
    view = await place.rounds(12)
    assert view.change is not None
    return as_before


async def test_what_began_twenty_minutes_before_the_next_hourly_round_has_the_provider_on_top(
    place: Place,
) -> None:
    as_before = await changed(place)
    began = as_before + 40 * 60.0
    alerts = observe({}, [REFUSALS], SEEN, began)
    (found,) = changes(place)
    assert (found.kind, found.since) == ("provider", as_before)
    assert found.at - as_before > 2 * HOUR_S, "evidence takes some rounds"
    (alert,) = observe(alerts, [REFUSALS], SEEN, place.now, [found]).values()
    (cause,) = alert.causes
    assert (cause.change, cause.place) == (found, "release")
    assert "the provider of a answers otherwise" in cause.words
    assert cause.words.endswith(", at most 40 min before (same release)")


@pytest.mark.parametrize(("on_change", "kind"), [("alert", None), ("fallback", "fallback")])
async def test_that_a_person_accepts_it_is_a_change_only_where_the_champion_serves_again(
    place: Place, on_change: Literal["alert", "fallback"], kind: str | None
) -> None:
    await changed(place, on_change)
    await place.probes.command("bank", "accept")
    (row,) = [row for row in told(place) if row.kind == ACCEPTED]
    change, event = change_of(row), event_of(row)
    assert (None if change is None else (change.kind, change.since)) == (kind and (kind, None))
    assert (None if event is None else event.kind) == (None if kind else "provider")
    assert ("the champion serves again" in row.message) is (kind is not None)
