"""The REST API of control: what the command line, CI and other programs talk to.

Bodies and answers are the structs of `views` and `spec`; the OpenAPI document is derived from
them, so that each is declared once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from fairlead import __version__
from fairlead.control import sample_views, views
from fairlead.control.acting.routes import acting_router
from fairlead.control.bias.routes import bias_router
from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.control.guard import guard_of
from fairlead.control.http import DOCUMENTED, REFERENCE
from fairlead.control.http import answer as _answer
from fairlead.control.http import body as _body
from fairlead.control.http import gives as _gives
from fairlead.control.http import takes as _takes
from fairlead.control.limits import key_views
from fairlead.control.limits.first_key import FirstKey
from fairlead.control.metrics.metrics_api import metrics_router
from fairlead.control.plane import ControlPlane
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.control.watching.watch_routes import watch_routes
from fairlead.control.watching.watch_status import watched_status
from fairlead.control.world.sync_answers import sync_response
from fairlead.domain.errors import FairleadError, InvalidInput, NotFound
from fairlead.domain.quota import Quota
from fairlead.evaluation.judge_model import Agreement
from fairlead.gateway.front.scrapers import metrics_token
from fairlead.rollout.export import Recorded
from fairlead.store.rows import SampleFilter
from fairlead.wire.snapshot import SyncRequest

AfterId = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""Id of an event, as the store keeps them."""
_log = logging.getLogger(__name__)


def create_app(plane: ControlPlane, token: str) -> FastAPI:
    """The API over a control plane.

    Every call but `/healthz` needs the token; for metrics one that opens nothing else will do.
    """
    guard = Depends(guard_of(token))
    scraping = Depends(guard_of(token, metrics_token(token)))
    app = FastAPI(
        title="fairlead control API",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.include_router(_public())
    app.include_router(metrics_router(plane), dependencies=[scraping])
    app.include_router(_reading(plane), prefix="/api/v1", dependencies=[guard])
    app.include_router(_acting(plane), prefix="/api/v1", dependencies=[guard])
    app.include_router(_keys(plane), prefix="/api/v1", dependencies=[guard])
    app.include_router(_tenants(plane), prefix="/api/v1", dependencies=[guard])
    app.include_router(_samples(plane), prefix="/api/v1", dependencies=[guard])
    watching = watch_routes(lambda: plane.watching, lambda: plane.now())
    app.include_router(watching, prefix="/api/v1", dependencies=[guard])
    app.include_router(bias_router(plane), prefix="/api/v1", dependencies=[guard])
    app.include_router(acting_router(plane, _gives, _answer), dependencies=[guard])
    app.include_router(_internal(plane), prefix="/internal/v1", dependencies=[guard])
    app.add_exception_handler(FairleadError, _problem)
    app.add_exception_handler(HTTPException, _no_such_call)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document with the structs' schemas in it."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, schemas = msgspec.json.schema_components(DOCUMENTED, ref_template=REFERENCE)
        for schema in schemas.values():
            if "description" in schema:  # Python 3.13 takes the indentation away by itself.
                schema["description"] = inspect.cleandoc(schema["description"])
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        document["components"]["securitySchemes"] = {
            "control": {"type": "http", "scheme": "bearer"}
        }
        document["security"] = [{"control": []}]
        app.openapi_schema = document
    return app.openapi_schema


async def _spec(request: Request) -> ServiceSpec:
    """A spec that makes sense; raises InvalidInput."""
    spec = await _body(request, ServiceSpec)
    check_spec(spec)
    return spec


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FairleadError)
    return _error(error.http_status, error.code, error.message, error.hint)


async def _no_such_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = NotFound.code if error.status_code == NotFound.http_status else InvalidInput.code
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _error(error.status_code, code, message, "see /openapi.json")


async def _bad_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return _error(InvalidInput.http_status, InvalidInput.code, "; ".join(told), None)


def _error(status: int, code: str, message: str, hint: str | None) -> Response:
    body = views.ErrorBody(code, message, hint)
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def _public() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Whether control runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return router


def _reading(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["reading"])

    @router.get("/status", summary="The whole installation", responses=_gives(views.StatusView))
    async def status() -> Response:
        return _answer(watched_status(await plane.reports.status(), plane.watching, plane.now()))

    @router.get("/rollouts", responses=_gives(list[views.RolloutView]),
                summary="Rollouts, the newest first")  # fmt: skip
    async def rollouts(service: str | None = None, limit: int = 50) -> Response:
        return _answer(await plane.reports.rollouts(service, limit))

    @router.get("/rollouts/{rollout}", responses=_gives(views.RolloutView),
                summary="One rollout")  # fmt: skip
    async def rollout(rollout: str) -> Response:
        return _answer(await plane.reports.rollout(rollout))

    @router.get("/rollouts/{rollout}/observations", responses=_gives(Recorded),
                summary="What it was judged by, to be judged again")  # fmt: skip
    async def observations(rollout: str) -> Response:
        return _answer(await plane.reports.observations(rollout))

    @router.get("/records", responses=_gives(list[dict[str, Any]]),
                summary="Request records, the newest first")  # fmt: skip
    async def records(
        service: str | None = None,
        release: str | None = None,
        rollout: str | None = None,
        errors: int = 0,
        limit: int = 20,
    ) -> Response:
        return _answer(await plane.reports.records(service, release, rollout, bool(errors), limit))

    @router.get("/probes", responses=_gives(list[ProbesView]),
                summary="What is known of providers by probes")  # fmt: skip
    async def probes() -> Response:
        return _answer(plane.probes.views())

    @router.get("/drills", responses=_gives(list[DrillView]),
                summary="Fault drills, the newest first")  # fmt: skip
    async def drills(service: str | None = None) -> Response:
        return _answer(await plane.drills.history(service))

    @router.get("/drills/{drill}", responses=_gives(DrillView), summary="One fault drill")
    async def drill(drill: str) -> Response:
        return _answer(await plane.drills.view(drill))

    @router.get("/events", responses=_gives(list[views.EventView]), summary="What happened")
    async def events(service: str | None = None, after: AfterId = 0, limit: int = 100) -> Response:
        return _answer(await plane.reports.events(service, after, limit))

    return router


def _acting(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["acting"])

    @router.post("/rollouts", responses=_gives(views.RolloutView),
                 openapi_extra=_takes(ServiceSpec), summary="Ship a release")  # fmt: skip
    async def ship(request: Request, anyway: bool = False) -> Response:
        """With `anyway` also what does not fit, by its steps and the traffic or its memory."""
        return _answer(await plane.ship(await _spec(request), anyway=anyway))

    @router.post("/plans", responses=_gives(views.PlanView),
                 openapi_extra=_takes(ServiceSpec),
                 summary="What shipping a release would take; changes nothing")  # fmt: skip
    async def plan(request: Request) -> Response:
        return _answer(await plane.planner.plan(await _spec(request)))

    @router.post("/evaluations", responses=_gives(views.RolloutView),
                 openapi_extra=_takes(ServiceSpec),
                 summary="Run a release's gates without traffic")  # fmt: skip
    async def evaluate(request: Request) -> Response:
        return _answer(await plane.ship(await _spec(request), gates_only=True))

    @router.put("/services/{service}", responses=_gives(views.Applied),
                openapi_extra=_takes(ServiceSpec),
                summary="Change how the champion runs, without a new release")  # fmt: skip
    async def apply(service: str, request: Request) -> Response:
        spec = await _spec(request)
        if spec.service != service:
            raise InvalidInput(f"the spec is of service {spec.service!r}, not of {service!r}")
        return _answer(await plane.apply(spec))

    @router.post("/rollouts/{rollout}/{command}", responses=_gives(views.RolloutView),
                 summary="Steer a rollout: pause, resume, promote, approve or abort")  # fmt: skip
    async def command(rollout: str, command: str) -> Response:
        return _answer(await plane.command(rollout, command))

    @router.post("/services/{service}/probes/{command}", responses=_gives(ProbesView),
                 summary="Accept an unrequested release, or run probes: accept, run")  # fmt: skip
    async def probe(service: str, command: str) -> Response:
        return _answer(await plane.probe(service, command))

    @router.post("/services/{service}/drills", responses=_gives(DrillView),
                 openapi_extra=_takes(DrillRequest),
                 summary="Begin a fault drill: a release that is bad on purpose")  # fmt: skip
    async def drill(service: str, request: Request) -> Response:
        return _answer(await plane.drill(service, await _body(request, DrillRequest)))

    @router.post("/services/{service}/rollback", responses=_gives(views.RolloutView),
                 openapi_extra=_takes(views.RollbackRequest),
                 summary="Go back to an earlier release")  # fmt: skip
    async def rollback(service: str, request: Request) -> Response:
        return _answer(await plane.rollback(service, await _body(request, views.RollbackRequest)))

    return router


def _keys(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["keys"], prefix="/keys")

    @router.get("", responses=_gives(list[key_views.KeyView]), summary="The keys in force")
    async def list_keys() -> Response:
        return _answer(await plane.keys.list())

    @router.post("", responses=_gives(key_views.NewKey), openapi_extra=_takes(key_views.KeyRequest),
                 summary="Make a key; it is shown this once")  # fmt: skip
    async def create(request: Request) -> Response:
        asked = await _body(request, key_views.KeyRequest)
        made = await plane.keys.create(asked.name, asked)
        plane.wake()
        return _answer(made)

    @router.post("/first", responses=_gives(FirstKey),
                 summary="Make the first key, if there is none")  # fmt: skip
    async def first() -> Response:
        made = await plane.keys.first()
        plane.wake()
        return _answer(made)

    @router.put("/{key}/limits", responses=_gives(key_views.KeyView),
                openapi_extra=_takes(key_views.LimitsRequest),
                summary="Change what may be used of a key")  # fmt: skip
    async def limit(key: str, request: Request) -> Response:
        changed = await plane.keys.limit(key, await _body(request, key_views.LimitsRequest))
        plane.wake()
        return _answer(changed)

    @router.delete("/{key}", responses=_gives(key_views.KeyView), summary="Revoke a key")
    async def revoke(key: str) -> Response:
        gone = await plane.keys.revoke(key)
        plane.wake()
        return _answer(gone)

    return router


def _tenants(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["keys"], prefix="/tenants")

    @router.get("/{tenant}", responses=_gives(key_views.TenantView),
                summary="A tenant's limits and keys")  # fmt: skip
    async def show(tenant: str) -> Response:
        return _answer(await plane.keys.tenant(tenant))

    @router.put("/{tenant}", responses=_gives(key_views.TenantView), openapi_extra=_takes(Quota),
                summary="Change what may be used by all keys of a tenant")  # fmt: skip
    async def limit(tenant: str, request: Request) -> Response:
        changed = await plane.keys.tenant(tenant, await _body(request, Quota))
        plane.wake()
        return _answer(changed)

    return router


def _samples(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["samples"])

    @router.get("/samples", responses=_gives(list[sample_views.SampleView]),
                summary="Prompts and answers that are kept, the newest first")  # fmt: skip
    async def samples(
        request: str | None = None,
        service: str | None = None,
        rollout: str | None = None,
        key: str | None = None,
        unit: str | None = None,
        limit: int = 20,
        before: float | None = None,
    ) -> Response:
        wanted = SampleFilter(request, service, rollout, key, unit)
        return _answer(await plane.samples.read(wanted, limit, before))

    @router.delete("/samples", responses=_gives(sample_views.Deleted),
                   summary="Delete prompts and answers that are kept")  # fmt: skip
    async def delete(
        request: str | None = None,
        service: str | None = None,
        rollout: str | None = None,
        key: str | None = None,
        unit: str | None = None,
    ) -> Response:
        return _answer(
            await plane.samples.delete(SampleFilter(request, service, rollout, key, unit))
        )

    @router.put("/services/{service}/judge/error", responses=_gives(views.Noted),
                openapi_extra=_takes(Agreement),
                summary="Note how often a service's judge model was right")  # fmt: skip
    async def judge_error(service: str, request: Request) -> Response:
        agreement = await _body(request, Agreement)
        await asyncio.to_thread(plane.judging.keep_agreement, service, agreement)
        return _answer(views.Noted(agreement.sentence))

    return router


def _internal(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["internal"])

    @router.post("/sync", summary="A gateway worker asks for a newer snapshot",
                 openapi_extra=_takes(SyncRequest), include_in_schema=False)  # fmt: skip
    async def sync(request: Request) -> Response:
        return sync_response(await plane.hub.sync(await _body(request, SyncRequest)))

    return router
