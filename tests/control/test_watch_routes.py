"""Alerts, incidents, silences, actions and monitors by the REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from control.kept_desk import PAGE, SHOP, T0, TICKET, KeptDesk, outage
from control.simulated_world import World
from control.test_api import TOKEN, is_problem
from fairlead.control.api import create_app
from fairlead.control.views import StatusView
from fairlead.control.watching.watch_views import (
    ActionView,
    AlertView,
    IncidentSummary,
    IncidentView,
    MonitorView,
    SilenceView,
)
from fairlead.monitoring import editing
from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import QUIET_S, TIMELINE_MAX, Event
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.silences import DAYS_MAX

NOW = T0 + 120.0
SILENCE = {"matchers": ["service=bank"], "by": "ana", "why": "known", "for_s": 3_600.0}


class Api:
    """Calls of the API of a desk, at a time that stands still."""

    def __init__(self, client: httpx.AsyncClient, kept: KeptDesk, world: World) -> None:
        self.client, self.kept, self.world = client, kept, world

    async def get(self, kind: Any, path: str, **query: Any) -> Any:
        answer = await self.client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=kind)

    async def call(self, kind: Any, method: str, path: str, body: Any = None) -> Any:
        answer = await self.client.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=kind)

    async def refused(
        self, status: int, method: str, path: str, body: Any = None
    ) -> dict[str, Any]:
        before = self.kept.desk
        answer = await self.client.request(method, f"/api/v1/{path}", json=body)
        code = {400: "invalid", 404: "not_found", 409: "conflict", 503: "unavailable"}[status]
        assert self.kept.desk is before, "what is refused changes nothing"
        return is_problem(answer, status, code)


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    real, kept = world.plane.watching, outage()
    world.plane.watching = kept  # type: ignore[assignment]
    world.now = NOW
    transport = httpx.ASGITransport(create_app(world.plane, TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://control", headers=headers
    ) as made:
        yield Api(made, kept, world)
    world.plane.watching = real


async def alerts(api: Api, **query: Any) -> list[AlertView]:
    found: list[AlertView] = await api.get(list[AlertView], "alerts", **query)
    return found


async def test_what_fires_is_listed_the_gravest_first(api: Api) -> None:
    found = await alerts(api)
    assert [one.severity for one in found] == ["page", "page", "ticket"]
    assert {one.state for one in found} == {"firing"}
    assert [one.monitor for one in await alerts(api, service="bank")] == ["slo", "drift"]
    assert [one.monitor for one in await alerts(api, severity="ticket")] == ["drift"]
    assert [one.monitor for one in await alerts(api, state="resolved")] == ["spend"]
    assert [one.state for one in await alerts(api, state="all")] == ["firing"] * 3 + ["resolved"]
    assert len(await alerts(api, state="all", limit=2)) == 2
    assert await alerts(api, service="nobody") == []


@pytest.mark.parametrize("query", ["severity=pages", "state=gone", "limit=0", "limit=1001"])
async def test_a_filter_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    await api.refused(400, "GET", f"alerts?{query}")


async def test_an_alert_says_all_that_is_known_by_the_beginning_of_its_name(api: Api) -> None:
    view = await api.get(AlertView, f"alerts/{PAGE.fingerprint[:9].upper()}")
    assert view.fingerprint == PAGE.fingerprint
    assert view.evidence == [Figure("burn rate over 1 h", 20.0, limit=14.4)]
    assert [cause.words for cause in view.causes] == [
        "release b promoted, 4 min before (same service)"
    ]
    assert [turn.to for turn in view.history] == ["firing"]
    assert view.course == [(T0, 20.0), (T0 + 60.0, 20.0), (T0 + 120.0, 20.0)]
    assert (view.incident, view.silence) == (1, None)


async def test_what_an_alert_quotes_is_shown_with_it_and_in_no_list(api: Api) -> None:
    api.kept.look(NOW, msgspec.structs.replace(PAGE, quotes=("topic 1: card",)), TICKET, SHOP)
    assert (await api.get(AlertView, f"alerts/{PAGE.fingerprint}")).quotes == ["topic 1: card"]
    assert {quote for one in await alerts(api) for quote in one.quotes} == set()


async def test_an_alert_that_is_not_there_or_not_meant_alone_is_refused(api: Api) -> None:
    assert (await api.refused(404, "GET", "alerts/zz"))["hint"]
    alert = api.kept.desk.alerts[PAGE.fingerprint]
    api.kept.desk = msgspec.structs.replace(
        api.kept.desk, alerts={f"a{n}": alert for n in range(7)}
    )
    told = (await api.refused(400, "GET", "alerts/a"))["message"]
    assert told == "7 alerts begin with 'a': a0, a1, a2, a3, a4, ..."


async def test_a_silenced_alert_is_shown_and_says_by_which_silence(api: Api) -> None:
    made = await api.call(SilenceView, "POST", "silences", SILENCE)
    assert made.id.startswith("si-")
    assert (made.since, made.until, made.state, made.alerts) == (NOW, NOW + 3_600.0, "active", 2)
    assert made.matchers == ['service="bank"']
    shown, other = [one.silence for one in await alerts(api, service="bank")]
    assert shown is not None
    assert (shown.id, shown.why, other) == (made.id, "known", shown)
    assert [one.silence for one in await alerts(api, service="shop")] == [None]
    api.world.now += 3_600.0
    assert [one.silence for one in await alerts(api, service="bank")] == [None, None]


async def test_a_silence_is_part_of_the_story_of_what_it_mutes(api: Api) -> None:
    await api.call(SilenceView, "POST", "silences", {**SILENCE, "since": NOW + 60.0})
    made = await api.call(SilenceView, "POST", "silences", SILENCE)
    said = f'silence {made.id} of service="bank" for 60 min: known'
    view = await api.get(IncidentView, "incidents/1")
    assert [event.what for event in view.timeline if event.by == "ana"] == [said]
    assert all(not event.by for event in (await api.get(IncidentView, "incidents/2")).timeline)


async def test_silences_are_listed_and_ended(api: Api) -> None:
    made = await api.call(SilenceView, "POST", "silences", SILENCE)
    later = await api.call(SilenceView, "POST", "silences", {**SILENCE, "since": NOW + 60.0})
    past = await api.call(SilenceView, "POST", "silences", {**SILENCE, "since": 0.0, "for_s": 9.0})
    assert (past.since, later.state, later.alerts) == (NOW, "pending", 0)
    api.world.now += 30.0
    listed = await api.get(list[SilenceView], "silences")
    assert [(one.id, one.state) for one in listed] == [
        (later.id, "pending"), (made.id, "active"), (past.id, "over"),
    ]  # fmt: skip
    ended = await api.call(SilenceView, "DELETE", f"silences/{made.id}")
    assert (ended.state, ended.until) == ("over", NOW + 30.0)
    never = await api.call(SilenceView, "DELETE", f"silences/{later.id}")
    assert never.state == "over"
    again = await api.call(SilenceView, "DELETE", f"silences/{made.id}")
    assert again == ended
    await api.refused(404, "DELETE", "silences/si-none")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"matchers": []}, "needs 1 to 20 matchers"),
        ({"matchers": ["service=bank"] * 1_000}, "needs 1 to 20 matchers"),
        ({"matchers": ["service"]}, "'service' is no matcher"),
        ({"matchers": ["service=~("]}, "is no pattern"),
        ({"matchers": ["service!=bank"]}, "a silence of everything is none"),
        ({"for_s": 0.0}, "has to end after it begins"),
        ({"for_s": -1e300}, "has to end after it begins"),
        ({"for_s": DAYS_MAX * 86_400.0 + 1.0}, "more than 90 days"),
        ({"since": 1e300}, "has to end after it begins"),
        ({"since": NOW + 91 * 86_400.0}, "begins within 90 days"),
        ({"why": " "}, "needs `why`"),
        ({"by": ""}, "`by` needs 1 to 100 characters"),
        ({"by": "a\nb"}, "`by` needs 1 to 100 characters"),
        ({"whyy": "x"}, "unknown field `whyy`"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(
    api: Api, change: dict[str, Any], told: str
) -> None:
    assert told in (await api.refused(400, "POST", "silences", {**SILENCE, **change}))["message"]


async def test_silences_are_bounded_by_those_that_still_count(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "SILENCES_MAX", 1)
    made = await api.call(SilenceView, "POST", "silences", SILENCE)
    await api.refused(409, "POST", "silences", SILENCE)
    await api.call(SilenceView, "DELETE", f"silences/{made.id}")
    await api.call(SilenceView, "POST", "silences", SILENCE)


async def test_incidents_that_go_on_are_listed_and_with_all_the_others(api: Api) -> None:
    found = await api.get(list[IncidentSummary], "incidents")
    assert [(one.number, one.services, one.alerts, one.firing) for one in found] == [
        (2, ["shop"], 1, 1), (1, ["bank"], 3, 2),
    ]  # fmt: skip
    assert [
        one.number for one in await api.get(list[IncidentSummary], "incidents", service="shop")
    ] == [2]
    await close(api, 1, by_force=True)
    assert [one.number for one in await api.get(list[IncidentSummary], "incidents")] == [2]
    every = await api.get(list[IncidentSummary], "incidents", all=1)
    assert [(one.number, one.state, one.by, one.resolution) for one in every] == [
        (2, "open", "", ""), (1, "closed", "ana", "it was the release"),
    ]  # fmt: skip


async def close(api: Api, number: int, **more: Any) -> IncidentView:
    asked = {"by": "ana", "words": "it was the release", **more}
    found: IncidentView = await api.call(IncidentView, "POST", f"incidents/{number}/close", asked)
    return found


async def test_an_incident_is_shown_with_its_alerts_timeline_and_page(api: Api) -> None:
    view = await api.get(IncidentView, "incidents/1")
    assert view.summary.ended_at is None
    assert {one.fingerprint for one in view.alerts} >= {PAGE.fingerprint, TICKET.fingerprint}
    assert any(event.what == "release b promoted" for event in view.timeline)
    assert view.page.startswith("# Incident 1: bank: ")
    impact = Impact("bank", 100.0, 7.0, T0 - 60.0, 0.02, 30.0)
    api.kept.impacts = [impact]
    view = await api.get(IncidentView, "incidents/1")
    assert view.impact == [impact]
    assert "- bank: 7 of 100 requests failed: 2.0% of the error budget of 30 days." in view.page
    await api.refused(404, "GET", "incidents/99")
    await api.refused(400, "GET", "incidents/one")


async def test_an_incident_is_closed_in_words_and_while_it_fires_by_force_only(api: Api) -> None:
    asked = {"by": "ana", "words": "it was the release"}
    assert (await api.refused(409, "POST", "incidents/1/close", asked))["hint"]
    for wrong in ({**asked, "words": " "}, {**asked, "by": ""}, {**asked, "force": True}):
        await api.refused(400, "POST", "incidents/1/close", {**wrong, "by_force": True})
    await api.refused(404, "POST", "incidents/99/close", asked)
    view = await close(api, 1, by_force=True)
    assert (view.summary.state, view.summary.ended_at) == ("closed", NOW)
    assert "By ana" in view.page
    await api.refused(409, "POST", "incidents/1/close", {**asked, "by_force": True})


async def test_a_note_is_part_of_the_story_also_after_the_end(api: Api) -> None:
    asked = {"by": "ana", "words": "the cache was cold"}
    view = await api.call(IncidentView, "POST", "incidents/1/note", asked)
    assert Event(NOW, "person", "the cache was cold", by="ana") in view.timeline
    assert "the cache was cold (by ana)" in view.page
    await close(api, 1, by_force=True)
    api.world.now += 60.0
    view = await api.call(IncidentView, "POST", "incidents/1/note", {**asked, "words": "later"})
    assert view.timeline[-1].what == "later"
    for wrong in ("", "x" * 2_001):
        await api.refused(400, "POST", "incidents/1/note", {**asked, "words": wrong})
    await api.refused(404, "POST", "incidents/99/note", asked)


async def test_a_note_for_which_there_is_no_room_is_refused(api: Api) -> None:
    (first, second) = api.kept.desk.incidents
    events = tuple(Event(T0 + n / 1_000, "x", str(n)) for n in range(TIMELINE_MAX))
    api.kept.desk = msgspec.structs.replace(
        api.kept.desk, incidents=(msgspec.structs.replace(first, timeline=events), second)
    )
    told = await api.refused(409, "POST", "incidents/1/note", {"by": "ana", "words": "x"})
    assert "no room" in told["message"]
    made = await api.call(SilenceView, "POST", "silences", SILENCE)
    assert made.alerts == 2, "a silence does not need room in a story"


async def test_two_incidents_are_made_one_and_notes_go_there(api: Api) -> None:
    asked = {"numbers": [2, 1], "by": "ana"}
    view = await api.call(IncidentView, "POST", "incidents/merge", asked)
    assert (view.summary.number, view.summary.services) == (1, ["bank", "shop"])
    assert len(view.alerts) == 4
    gone = await api.get(IncidentView, "incidents/2")
    assert (gone.summary.merged_into, gone.summary.state) == (1, "closed")
    (shop,) = await alerts(api, service="shop")
    assert shop.incident == 1
    told = await api.refused(409, "POST", "incidents/2/note", {"by": "ana", "words": "x"})
    assert "part of incident 1" in told["message"]
    await api.refused(409, "POST", "incidents/merge", asked)
    await api.refused(400, "POST", "incidents/merge", {"numbers": [1, 1], "by": "ana"})
    await api.refused(404, "POST", "incidents/merge", {"numbers": [1, 9], "by": "ana"})
    await api.refused(400, "POST", "incidents/merge", {"numbers": [1], "by": "ana"})


async def test_decisions_on_actions_are_listed_the_newest_first(api: Api) -> None:
    api.kept.look(NOW + 60.0)
    api.kept.look(NOW + 360.0)
    api.kept.look(NOW + 420.0, PAGE, SHOP)
    found = await api.get(list[ActionView], "actions")
    assert [one.verdict for one in found] == ["cooling", "dry_run"]
    assert (found[1].kind, found[1].target, found[1].alert) == (
        "roll_back", "sha256:a", PAGE.fingerprint,
    )  # fmt: skip
    assert found[1].words.startswith("roll_back a (dry_run): back to the last good release")
    assert await api.get(list[ActionView], "actions", service="shop") == []
    assert len(await api.get(list[ActionView], "actions", limit=1)) == 1


async def test_monitors_are_listed_with_the_alerts_of_theirs_that_fire(api: Api) -> None:
    found = await api.get(list[MonitorView], "monitors")
    assert [(one.service, one.monitor, one.standing, one.trouble, one.alerts) for one in found] == [
        ("bank", "slo", "watching", "", 1), ("shop", "latency", "blind", "no data", 1),
    ]  # fmt: skip
    (only,) = await api.get(list[MonitorView], "monitors", service="shop")
    api.kept.standings = [msgspec.structs.replace(api.kept.standings[1], release="sha256:cd")]
    assert only.alerts == 1
    assert [one.alerts for one in await api.get(list[MonitorView], "monitors")] == [0]


async def test_what_a_monitor_sees_is_accepted(api: Api) -> None:
    path = "/api/v1/monitors/bank/slo/accept"
    assert (await api.client.post(path)).json() == {
        "said": "what slo of bank told is taken as it should be"
    }
    assert api.kept.accepted == [("bank", "slo")]
    await api.refused(404, "POST", "monitors/bank/none/accept")


async def test_the_status_says_what_fires_and_what_goes_on(api: Api) -> None:
    status = await api.get(StatusView, "status")
    assert (status.alerts, status.incidents) == (3, 2)
    assert [one.severity for one in status.gravest] == ["page", "page", "ticket"]
    for now in (NOW + 60.0, NOW + 360.0, NOW + 360.0 + QUIET_S):
        api.kept.look(now)
    status = await api.get(StatusView, "status")
    assert (status.alerts, status.incidents, status.gravest) == (0, 0, [])
    assert (status.watching_age_s, status.watching_trouble) == (1.5, "")
    api.kept.age_s, api.kept.trouble = 9.0, "the disk is full"
    status = await api.get(StatusView, "status")
    assert (status.watching_age_s, status.watching_trouble) == (9.0, "the disk is full")


async def test_what_suites_lack_is_listed(api: Api) -> None:
    found = await api.get(list[SuggestedCase], "monitors/bank/cases")
    assert [(case.request, case.text) for case in found] == [("r1", "where is my card")]
    await api.refused(404, "GET", "monitors/none/cases")


async def test_the_picture_is_an_svg_that_runs_nothing(api: Api) -> None:
    answer = await api.client.get(f"/api/v1/alerts/{SHOP.fingerprint}/picture.svg")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'none'"
    assert answer.text.startswith("<svg ")
    await api.refused(404, "GET", "alerts/zz/picture.svg")
