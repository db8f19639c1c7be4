"""The calls of the REST API about whether all are treated alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from fairlead.control.bias.scoring_model import Differences, ScoreRequest, Scoring
from fairlead.control.bias.telling import BiasView
from fairlead.control.bias.tracking_views import TrackedView
from fairlead.control.http import answer, body, gives, takes

if TYPE_CHECKING:
    from fairlead.control.plane import ControlPlane


def bias_router(plane: ControlPlane) -> APIRouter:
    """The router."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/bias", responses=gives(list[BiasView]),
                summary="What pairs of requests show of champions: gaps, examples")  # fmt: skip
    async def pairs() -> Response:
        return answer(plane.bias.views())

    @router.post("/services/{service}/bias/accept", responses=gives(BiasView),
                 summary="The gaps were seen: the evidence of pairs begins anew")  # fmt: skip
    async def accept(service: str) -> Response:
        return answer(await plane.bias.accept(service))

    @router.get("/bias/tracked", responses=gives(list[TrackedView]),
                summary="Scores on a schedule: runs, and what they are held against")  # fmt: skip
    async def tracked() -> Response:
        return answer(plane.bias_tracking.views())

    @router.post("/services/{service}/bias/scores/accept", responses=gives(list[TrackedView]),
                 summary="The scores were seen: the champion's are accepted")  # fmt: skip
    async def accept_scores(service: str) -> Response:
        return answer(await plane.bias_tracking.accept(service))

    @router.get("/services/{service}/bias/scores", responses=gives(list[Scoring]),
                summary="Its releases' scores on BBQ and CrowS-Pairs, newest first")  # fmt: skip
    async def scores(service: str) -> Response:
        return answer(plane.bias_scores.all(service))

    @router.post("/services/{service}/bias/scores", responses=gives(Scoring),
                 openapi_extra=takes(ScoreRequest),
                 summary="Ask a release that runs the items of a benchmark")  # fmt: skip
    async def score(service: str, request: Request) -> Response:
        made = await plane.bias_scores.begin(service, await body(request, ScoreRequest))
        plane.wake()
        return answer(made)

    @router.get("/services/{service}/bias/differences", responses=gives(list[Differences]),
                summary="Two releases' scores on the same items, item by item")  # fmt: skip
    async def differences(service: str, first: str, other: str) -> Response:
        return answer(await plane.bias_scores.differences(service, first, other))

    return router
