"""What the gateway answers to: its paths, and what each of them does with a complete request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from fairlead.gateway import errors
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.request import Request
from fairlead.gateway.front.scrapers import MetricsAccess
from fairlead.gateway.limits import FEEDBACK_BYTES_MAX
from fairlead.gateway.requests.call import Client, Running
from fairlead.gateway.requests.dialects import PASSED_THROUGH
from fairlead.gateway.requests.feedback import take_feedback
from fairlead.gateway.requests.generation import generate
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.state.loaded import Loaded

if TYPE_CHECKING:
    from fairlead.gateway.front.client import ClientConnection

_JSON = b"application/json"
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_MODELS = "/v1/models"
_NO_BODY = 1
"""Largest body of an operation that takes none (0 would mean: as large as a service takes)."""


class Host(Protocol):
    """What a connection and its operations use of the worker."""

    @property
    def plant(self) -> Plant:
        """The parts that a request uses."""

    @property
    def loaded(self) -> Loaded | None:
        """The present snapshot."""

    @property
    def is_draining(self) -> bool:
        """Whether the worker is about to end."""

    @property
    def scrapers(self) -> MetricsAccess:
        """Who may read metrics."""

    @property
    def date(self) -> bytes:
        """The `date` header."""

    def connected(self, connection: ClientConnection, address: str) -> bool:
        """A client connected; False when there are too many."""

    def recognised(self, connection: ClientConnection) -> None:
        """It has shown a valid key for the first time."""

    def disconnected(self, connection: ClientConnection) -> None:
        """It left."""

    def new_request_id(self, key_id: str) -> str:
        """A fresh request id."""

    def hold_body(self, size: int, held: int = 0) -> bool:
        """Account for bytes of a body, of which so many are held; False when these are too many."""

    def let_go_of_body(self, size: int) -> None:
        """They are not held any longer."""

    def metrics_page(self) -> bytes:
        """The metrics of all workers."""


Outcome = Running | Refusal | None
"""A request to start, a refusal to answer with, or nothing when the answer is on its way."""
Handler = Callable[[Host, Client, Request, Loaded | None], Outcome]


class Operation(msgspec.Struct, frozen=True):
    """One path and method.

    Attributes:
        body_bytes_max: Largest body; 0 for as large as a service takes.
        is_scraped: Whether it is for who may read metrics (`scrapers`).
    """

    method: str
    handle: Handler
    needs_key: bool = True
    body_bytes_max: int = 0
    is_scraped: bool = False


def find_operation(method: str, path: str) -> Operation | None:
    """The operation of a path. Its method may be another than the one asked for."""
    if path.startswith(_MODELS + "/"):
        path = _MODELS
    return _OPERATIONS.get(path)


def _models(host: Host, client: Client, request: Request, loaded: Loaded | None) -> Outcome:
    assert loaded is not None
    name = request.path.removeprefix(_MODELS).removeprefix("/")
    if not name:
        body = msgspec.json.encode({"object": "list", "data": list(loaded.models.values())})
    elif name in loaded.models:
        body = bytes(loaded.models[name])
    else:
        return errors.model_not_found(name)
    client.answer(200, _JSON, body, b"")
    return None


def _feedback(host: Host, client: Client, request: Request, loaded: Loaded | None) -> Outcome:
    assert loaded is not None
    if not host.plant.recorder.keeps_records:
        return errors.NOTHING_RECORDED
    return take_feedback(host.plant, client, loaded.ids, request.key_id, request.body)


def _health(host: Host, client: Client, request: Request, loaded: Loaded | None) -> Outcome:
    if loaded is None:
        return errors.NO_SNAPSHOT
    version = loaded.snapshot.version
    client.answer(200, _JSON, msgspec.json.encode({"status": "ok", "snapshot": version}), b"")
    return None


def _metrics(host: Host, client: Client, request: Request, loaded: Loaded | None) -> Outcome:
    client.answer(200, _METRICS, host.metrics_page(), b"")
    return None


_OPERATIONS = {
    **{
        f"/v1/{kind}": Operation("POST", generate(kind))
        for kind in ("chat/completions", "completions", "embeddings", *sorted(PASSED_THROUGH))
    },
    "/v1/feedback": Operation("POST", _feedback, body_bytes_max=FEEDBACK_BYTES_MAX),
    _MODELS: Operation("GET", _models, body_bytes_max=_NO_BODY),
    "/healthz": Operation("GET", _health, needs_key=False, body_bytes_max=_NO_BODY),
    "/metrics": Operation(
        "GET", _metrics, needs_key=False, body_bytes_max=_NO_BODY, is_scraped=True
    ),
}
