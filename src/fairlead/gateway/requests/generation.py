"""What is done with a request for an answer of a model, from its body to its way to a replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.gateway import errors
from fairlead.gateway.errors import Refusal
from fairlead.gateway.quotas import quota_answers
from fairlead.gateway.quotas.lease_wait import LeaseWait
from fairlead.gateway.quotas.quota import Hold
from fairlead.gateway.replicas.affinity import prefix_of
from fairlead.gateway.requests.call import Call, Client, Running
from fairlead.gateway.requests.dialects import PASSED_THROUGH, runs_on, user_of
from fairlead.gateway.requests.exchange import Exchange
from fairlead.gateway.requests.express import shortest
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.request_body import read_fields
from fairlead.gateway.state.loaded import Loaded

if TYPE_CHECKING:
    from fairlead.gateway.front.operations import Handler, Host, Outcome
    from fairlead.gateway.front.request import Request

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
        if not isinstance(fields, Fields):  # Asked so, the usual type is known at once.
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
        call = Call(
            request.id, request.key_id, kind, body, fields, service, assignment, request.priority
        )
        if service.stratify is not None:
            call.stratum = service.stratify(kind, request.key_id, body, request.risk)
        if plant.tracing is not None:
            call.trace = plant.tracing.begin(request.trace)
        book = loaded.quotas
        if book is not None:
            taken = quota_answers.take(book, call, plant.clock.as_wall(now))
            if isinstance(taken, Hold):
                call.hold = taken
            elif isinstance(taken, Refusal):
                return taken
            elif taken is not None:
                return LeaseWait(plant, client, call, book, taken, _begin)
        return _begin(plant, client, call, now)

    return handle


def _begin(plant: Plant, client: Client, call: Call, now: float) -> Running:
    service = call.service
    if call.assignment.release in service.choosing:
        call.prefix = prefix_of(call.body)
    if service.route.capture is not None:
        captured = plant.captures.take(client, call, now)
        if captured is not None:
            # The short way ends in the middle of a turn; what is kept has to see every end.
            return captured.around(Exchange(plant, captured, call))
    if call.kind in PASSED_THROUGH:
        return Exchange(plant, client, call)
    return shortest(plant, client, call, now)
