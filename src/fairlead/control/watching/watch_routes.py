"""The calls of the REST API about alerts, incidents, silences, actions and monitors.

What is read comes from the desk as it was kept last; what a person changes goes through `edit`, so
that it is kept before the call is answered.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response

from fairlead.control import views
from fairlead.control.http import answer, body, gives, gives_media, takes
from fairlead.control.watching.interface import Watched
from fairlead.control.watching.picture import picture
from fairlead.control.watching.watch_views import (
    ActionView,
    AlertView,
    CloseRequest,
    IncidentSummary,
    IncidentView,
    MergeRequest,
    MonitorView,
    NoteRequest,
    SilenceRequest,
    SilenceView,
    action_view,
    alert_views,
    gravest,
    incident_summary,
    incident_view,
    monitor_view,
    silence_view,
)
from fairlead.domain.errors import InvalidInput
from fairlead.monitoring import editing
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.matching import MATCHERS_MAX, parse_matcher
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.silences import Silence

T = TypeVar("T")
LIMIT_MAX = 1_000
ALL = "all"
STATES = (*(state.value for state in AlertState), ALL)
SEVERITIES = tuple(severity.value for severity in Severity)
SVG = "image/svg+xml"
ALONE = {"content-security-policy": "default-src 'none'; style-src 'none'"}
"""A picture that is opened by itself runs and fetches nothing."""

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]
Now = Callable[[], float]
Watching = Callable[[], Watched]


def watch_routes(watching: Watching, now: Now) -> APIRouter:
    """The router.

    Args:
        now: Unix time in seconds.
    """
    router = APIRouter()
    router.include_router(_alerts(watching, now))
    router.include_router(_incidents(watching, now))
    router.include_router(_incident_words(watching, now))
    router.include_router(_silences(watching, now))
    router.include_router(_monitors(watching))
    return router


def _alerts(watching: Watching, now: Now) -> APIRouter:
    router = APIRouter(tags=["alerts"], prefix="/alerts")

    @router.get("", responses=gives(list[AlertView]),
                summary="Alerts, the gravest first; without a state those that fire")  # fmt: skip
    async def alerts(
        service: str | None = None,
        severity: str | None = None,
        state: str = AlertState.FIRING.value,
        limit: Limit = 100,
    ) -> Response:
        _check("severity", severity, SEVERITIES)
        _check("state", state, STATES)
        desk = watching().desk
        found = [
            one
            for one in desk.alerts.values()
            if service in (None, one.of.get("service", ""))
            and severity in (None, one.severity.value)
            and state in (ALL, one.state.value)
        ]
        return answer(await _made(lambda: alert_views(gravest(found)[:limit], desk, now())))

    @router.get("/{fingerprint}", responses=gives(AlertView),
                summary="One alert; the beginning of its fingerprint is enough")  # fmt: skip
    async def alert(fingerprint: str) -> Response:
        desk = watching().desk
        found = editing.find_alert(desk, fingerprint)
        (view,) = alert_views([found], desk, now())
        return answer(msgspec.structs.replace(view, quotes=list(found.quotes)))

    @router.get("/{fingerprint}/picture.svg", responses=gives_media(SVG, {"type": "string"}),
                response_class=Response, summary="How its first figure went, as SVG")  # fmt: skip
    async def course(fingerprint: str) -> Response:
        alert = editing.find_alert(watching().desk, fingerprint)
        return Response(picture(alert), media_type=SVG, headers=ALONE)

    return router


def _incidents(watching: Watching, now: Now) -> APIRouter:
    router = APIRouter(tags=["incidents"], prefix="/incidents")

    @router.get("", responses=gives(list[IncidentSummary]),
                summary="Incidents, the newest first; with all=1 closed ones, too")  # fmt: skip
    async def incidents(service: str | None = None, all: int = 0, limit: Limit = 100) -> Response:
        found = [
            incident_summary(one)
            for one in reversed(watching().desk.incidents)
            if (all or one.is_open) and (service is None or service in one.services)
        ]
        return answer(found[:limit])

    @router.get("/{number}", responses=gives(IncidentView),
                summary="One incident: alerts, timeline, and its post-mortem")  # fmt: skip
    async def incident(number: int) -> Response:
        found = editing.find_incident(watching().desk, number)
        return answer(await _incident_view(watching(), found, now()))

    return router


async def _incident_view(watching: Watched, found: Incident, now: float) -> IncidentView:
    return incident_view(found, now, await watching.impact(found))


def _incident_words(watching: Watching, now: Now) -> APIRouter:
    router = APIRouter(tags=["incidents"], prefix="/incidents")

    async def edited(number: int, change: Callable[[Desk], Desk]) -> Response:
        desk = await watching().edit(change)
        found = editing.find_incident(desk, number)
        return answer(await _incident_view(watching(), found, now()))

    @router.post("/merge", responses=gives(IncidentView), openapi_extra=takes(MergeRequest),
                 summary="Make the younger of two incidents part of the older one")  # fmt: skip
    async def merge(request: Request) -> Response:
        asked = await body(request, MergeRequest)
        return await edited(
            min(asked.numbers),
            lambda desk: editing.merge_incidents(desk, asked.numbers, asked.by, now()),
        )

    @router.post("/{number}/close", responses=gives(IncidentView),
                 openapi_extra=takes(CloseRequest),
                 summary="Close an incident, saying what it was and what helped")  # fmt: skip
    async def close(number: int, request: Request) -> Response:
        asked = await body(request, CloseRequest)
        return await edited(
            number,
            lambda desk: editing.close_incident(
                desk, number, asked.by, asked.words, now(), by_force=asked.by_force
            ),
        )

    @router.post("/{number}/note", responses=gives(IncidentView), openapi_extra=takes(NoteRequest),
                 summary="Put a person's words into an incident's timeline")  # fmt: skip
    async def note(number: int, request: Request) -> Response:
        asked = await body(request, NoteRequest)
        return await edited(
            number,
            lambda desk: editing.note_incident(desk, number, asked.by, asked.words, now()),
        )

    return router


def _silences(watching: Watching, now: Now) -> APIRouter:
    router = APIRouter(tags=["silences"], prefix="/silences")

    @router.get("", responses=gives(list[SilenceView]),
                summary="Silences of now, the future and the last day")  # fmt: skip
    async def silences() -> Response:
        desk = watching().desk
        order = sorted(desk.silences, key=lambda one: (-one.until, one.id))
        return answer(await _made(lambda: [silence_view(one, desk, now()) for one in order]))

    @router.post("", responses=gives(SilenceView), openapi_extra=takes(SilenceRequest),
                 summary="Tell nobody of some alerts for a time")  # fmt: skip
    async def silence(request: Request) -> Response:
        made = _silence(await body(request, SilenceRequest), now())
        desk = await watching().edit(lambda desk: editing.add_silence(desk, made, now()))
        return answer(silence_view(made, desk, now()))

    @router.delete("/{silence}", responses=gives(SilenceView), summary="End a silence now")
    async def end(silence: str) -> Response:
        desk = await watching().edit(lambda desk: editing.end_silence(desk, silence, now()))
        return answer(silence_view(editing.find_silence(desk, silence), desk, now()))

    return router


def _monitors(watching: Watching) -> APIRouter:
    router = APIRouter(tags=["monitors"])

    @router.get("/monitors", responses=gives(list[MonitorView]),
                summary="Monitors, and how far each of them is")  # fmt: skip
    async def monitors(service: str | None = None) -> Response:
        found = watching()
        desk = found.desk
        return answer([monitor_view(one, desk) for one in found.monitors(service)])

    @router.post("/monitors/{service}/{monitor}/accept", responses=gives(views.Noted),
                 summary="What a monitor tells now is as it should be")  # fmt: skip
    async def accept(service: str, monitor: str) -> Response:
        await watching().accept(service, monitor)
        return answer(views.Noted(f"what {monitor} of {service} told is taken as it should be"))

    @router.get("/monitors/{service}/cases", responses=gives(list[SuggestedCase]),
                summary="Requests that the service's suites lack, by what has drifted")  # fmt: skip
    async def suggested_cases(service: str) -> Response:
        return answer(await watching().suggested_cases(service))

    @router.get("/actions", responses=gives(list[ActionView]),
                summary="Decisions on actions, the newest first")  # fmt: skip
    async def actions(service: str | None = None, limit: Limit = 100) -> Response:
        audit = watching().desk.audit
        found = [one for one in reversed(audit) if service in (None, one.service)]
        return answer([action_view(one) for one in found[:limit]])

    return router


def _silence(asked: SilenceRequest, now: float) -> Silence:
    """The silence that is asked for; it begins now at the earliest."""
    since = now if asked.since is None else max(now, asked.since)
    return Silence(
        id=f"si-{secrets.token_hex(4)}",
        matchers=tuple(parse_matcher(text) for text in asked.matchers[: MATCHERS_MAX + 1]),
        since=since,
        until=since + asked.for_s,
        by=asked.by,
        why=asked.why,
    )


def _check(name: str, given: str | None, known: tuple[str, ...]) -> None:
    if given is not None and given not in known:
        raise InvalidInput(f"{name}: must be one of {', '.join(known)}, not {given[:80]!r}")


async def _made(make: Callable[[], T]) -> T:
    """Beside the loop: it may be thousands of alerts."""
    return await asyncio.to_thread(make)
