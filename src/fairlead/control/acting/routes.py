"""The calls of the REST API about what actions have left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.proposals import Proposal
from fairlead.control.acting.suite_versions import RefuseRequest, SuiteVersion
from fairlead.control.acting.tightenings import Tightening
from fairlead.control.http import body, takes

if TYPE_CHECKING:
    from fairlead.control.plane import ControlPlane

Gives = Callable[[Any], dict[int | str, dict[str, Any]]]


def acting_router(
    plane: ControlPlane, gives: Gives, answer: Callable[[object], Response]
) -> APIRouter:
    """The router.

    Args:
        gives: The description of answers of a type.
        answer: An answer as it is sent.
    """
    router = APIRouter(tags=["monitoring"], prefix="/api/v1")

    @router.get("/diversions", responses=gives(list[Diversion]),
                summary="Services whose fallbacks answer because of an action")  # fmt: skip
    async def diversions() -> Response:
        return answer(plane.acting.diversions.all())

    @router.post("/services/{service}/undivert", responses=gives(Diversion),
                 summary="Let a champion serve again that an action diverted from")  # fmt: skip
    async def undivert(service: str) -> Response:
        return answer(await plane.undivert(service))

    @router.get("/tightenings", responses=gives(list[Tightening]),
                summary="Guardrails that block because of an action")  # fmt: skip
    async def tightenings() -> Response:
        return answer(plane.acting.tightenings.all())

    @router.post("/services/{service}/guardrails/{guardrail}/loosen", responses=gives(Tightening),
                 summary="Let a guardrail flag again that an action tightened")  # fmt: skip
    async def loosen(service: str, guardrail: str) -> Response:
        return answer(await plane.loosen(service, guardrail))

    @router.get("/suites", responses=gives(list[SuiteVersion]),
                summary="Suite versions of actions, newest first, without texts")  # fmt: skip
    async def suites(service: str | None = None) -> Response:
        return answer([one.shown for one in plane.acting.fresh_cases.all(service)])

    @router.get("/suites/{version}", responses=gives(SuiteVersion),
                summary="One suite version with its cases")  # fmt: skip
    async def suite(version: str) -> Response:
        return answer(await plane.acting.fresh_cases.read(version))

    @router.post("/suites/{version}/refuse", responses=gives(SuiteVersion),
                 openapi_extra=takes(RefuseRequest),
                 summary="Refuse cases of a suite version; all if none is named")  # fmt: skip
    async def refuse(version: str, request: Request) -> Response:
        asked = await body(request, RefuseRequest)
        left = await plane.refuse_cases(version, asked.cases, asked.by, asked.why)
        return answer(left.shown)

    @router.get("/proposals", responses=gives(list[Proposal]),
                summary="Proposals to train a model anew, the newest first")  # fmt: skip
    async def proposals(service: str | None = None) -> Response:
        return answer(await plane.acting.proposals.all(service))

    return router
