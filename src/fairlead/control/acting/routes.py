"""The calls of the REST API about what actions have left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.proposals import Proposal
from fairlead.control.acting.tightenings import Tightening

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

    @router.get("/proposals", responses=gives(list[Proposal]),
                summary="Proposals to train a model anew, the newest first")  # fmt: skip
    async def proposals(service: str | None = None) -> Response:
        return answer(await plane.acting.proposals.all(service))

    return router
