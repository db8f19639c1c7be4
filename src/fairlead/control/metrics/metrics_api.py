"""`/metrics` of control, and the token for it.

A scraper needs to read metrics and nothing else. So there is a token that opens only these paths;
it follows from the control token in one direction, so that both are new together
(`fairlead.gateway.front.scrapers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response

from fairlead.control.plane import ControlPlane
from fairlead.gateway.records.metric_families import FamilyState, render

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_router(plane: ControlPlane) -> APIRouter:
    """The paths that are scraped."""
    router = APIRouter(tags=["metrics"])
    content = {"text/plain": {"schema": {"type": "string"}}}
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "OK", "content": content}}

    @router.get("/metrics", response_class=Response, responses=responses,
                summary="The installation, in Prometheus' text format")  # fmt: skip
    async def metrics() -> Response:
        return _answer(await plane.exposition.states())

    @router.get("/metrics/replicas", response_class=Response, responses=responses,
                summary="What replicas say of themselves, by release")  # fmt: skip
    async def replicas() -> Response:
        return _answer(plane.replica_metrics.states())

    return router


def _answer(states: Sequence[FamilyState]) -> Response:
    return Response(render(states), media_type=TEXT_FORMAT)
