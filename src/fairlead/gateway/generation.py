"""What is done with a request for an answer of a model, from its body to its way to a replica."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fairlead.gateway import errors, quota_answers
from fairlead.gateway.affinity import prefix_of
from fairlead.gateway.call import Call, Client, Plant, Running
from fairlead.gateway.dialects import PASSED_THROUGH, runs_on, user_of
from fairlead.gateway.errors import Refusal
from fairlead.gateway.express import shortest, whole
from fairlead.gateway.lease_wait import LeaseWait, Taken
from fairlead.gateway.loaded import LiveService, Loaded
from fairlead.gateway.quota import Hold, QuotaBook
from fairlead.gateway.quota_answers import Lacking
from fairlead.gateway.request_body import Fields, read_fields
from fairlead.gateway.routing import Assignment

if TYPE_CHECKING:
    from fairlead.gateway.operations import Handler, Host, Outcome, Request

_IN_BACKGROUND = errors.invalid_body(
    "`background` is not offered: an answer is made while its client waits for it.", "background"
)


def generate(kind: str) -> Handler:
    """The handler of one API.

    Args:
        kind: As in `Call`.
    """
    is_passed_through = kind in PASSED_THROUGH

    def handle(host: Host, client: Client, request: Request, loaded: Loaded | None) -> Outcome:
        assert loaded is not None
        body = request.body
        fields = read_fields(body)
        if isinstance(fields, Refusal):
            return fields
        service = loaded.services.get(fields.model)
        if service is None:
            return errors.model_not_found(fields.model)
        if len(body) > service.route.limits.body_bytes_max:
            return errors.body_too_large(service.route.limits.body_bytes_max)
        user = fields.user
        if is_passed_through:
            if runs_on(kind, body):
                return _IN_BACKGROUND
            user = user_of(kind, body, user)
        plant = host.plant
        now = plant.clock.now()
        assignment = service.assign(request.key_id, request.session, user, now)
        if assignment is None:
            return errors.no_release(service.route.name)
        if loaded.quotas is None:
            return _begin(plant, client, kind, request, fields, service, assignment, None, now)
        return _within_limits(
            plant, client, kind, request, fields, service, assignment, loaded.quotas, now
        )

    return handle


def _within_limits(
    plant: Plant,
    client: Client,
    kind: str,
    request: Request,
    fields: Fields,
    service: LiveService,
    assignment: Assignment,
    book: QuotaBook,
    now: float,
) -> Outcome:
    key, release = request.key_id, assignment.release
    wall = plant.clock.as_wall(now)
    taken = quota_answers.take(book, key, kind, request.body, service.route, release, wall)
    if isinstance(taken, Refusal):
        return taken
    begin = partial(_begin, plant, client, kind, request, fields, service, assignment)
    if not isinstance(taken, Lacking):
        return begin(taken, now)

    def again() -> Taken:
        wall = plant.clock.wall()
        return quota_answers.take(
            book, key, kind, request.body, service.route, release, wall, is_again=True
        )

    return LeaseWait(
        plant, client, book, kind, taken, again, lambda hold: begin(hold, plant.clock.now())
    )


def _begin(
    plant: Plant,
    client: Client,
    kind: str,
    request: Request,
    fields: Fields,
    service: LiveService,
    assignment: Assignment,
    hold: Hold | None,
    now: float,
) -> Running:
    body = request.body
    prefix = prefix_of(body) if service.has_choice(assignment.release) else None
    call = Call(request.id, request.key_id, kind, body, fields, request.priority, hold, prefix)
    way = whole if kind in PASSED_THROUGH else shortest
    return way(plant, client, call, service, assignment, now)
