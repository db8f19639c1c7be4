"""A client connection without sockets: bytes in, what the gateway made of them out."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

import msgspec
from gateway_rig import KEYS, A, route

from fairlead.gateway.clock import Clock
from fairlead.gateway.front.client import ClientConnection
from fairlead.gateway.front.operations import Operation, Outcome
from fairlead.gateway.front.request import Request
from fairlead.gateway.front.scrapers import MetricsAccess
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.records.spool import NullSpool
from fairlead.gateway.replicas.fleet import Fleet
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.streams.batching import Batches
from fairlead.gateway.waiting.deadlines import Deadlines
from fairlead.wire.snapshot import Limits, ServiceRoute, Snapshot

BODY_BYTES_MAX = 100_000


class Transport:
    """Takes what is written; reads nothing."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False
        self.has_ended = False
        self._is_closing = False
        self._is_reading = True

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert not self._is_closing
        assert not self.has_ended
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = self.is_aborted = True

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    @property
    def takes_more(self) -> bool:
        return self.is_reading() and not self.has_ended


async def _made() -> tuple[Recorder, Batches]:
    """Of the type that a compiled worker insists on; they belong to a loop, and do nothing."""
    clock = Clock()
    batches = Batches(lambda *_: None, clock.now)
    return Recorder(NullSpool(), clock, GatewayMetrics()), batches


RECORDER, BATCHES = asyncio.run(_made())


class Host:
    """A worker's part, as far as it is reached without a replica: `bank` has no release."""

    def __init__(self) -> None:
        clock = Clock()
        fleet = Fleet(clock, on_room=lambda: None, on_drained=lambda: None)
        # No request gets as far as a replica: these are out of reach.
        nothing = cast(Any, None)
        self.plant = Plant(
            deadlines=Deadlines(),
            shadows=nothing,
            captures=nothing,
            batches=BATCHES,
            turns=nothing,
            clock=clock,
            fleet=fleet,
            queue=nothing,
            recorder=RECORDER,
            metrics=GatewayMetrics(),
        )
        bank = ServiceRoute(
            name="bank",
            releases={A: route(A)},
            champion=None,
            canary=None,
            canary_share=0.0,
            rollout=None,
            phase=0,
            salt="s",
            limits=Limits(body_bytes_max=BODY_BYTES_MAX),
        )
        snapshot = Snapshot(version=1, request_id_key="11" * 32, keys=KEYS, services={"bank": bank})
        self.loaded: Loaded | None = Loaded(snapshot, fleet, {})
        self.is_draining = False
        self.scrapers = MetricsAccess("open")
        self.date = b"Wed, 25 Nov 2026 00:00:00 GMT"
        self.held = 0
        self.recognised_count = 0

    def connected(self, connection: ClientConnection, address: str) -> bool:
        return True

    def recognised(self, connection: ClientConnection) -> None:
        self.recognised_count += 1

    def disconnected(self, connection: ClientConnection) -> None:
        pass

    def new_request_id(self, key_id: str) -> str:
        return "req_x"

    def hold_body(self, size: int, held: int = 0) -> bool:
        self.held += size
        return True

    def let_go_of_body(self, size: int) -> None:
        self.held -= size

    def metrics_page(self) -> bytes:
        return b"page"


HOST = Host()


class Fed(msgspec.Struct):
    """What came of some bytes."""

    transport: Transport
    connection: ClientConnection


def feed(pieces: list[bytes], host: Host = HOST) -> Fed:
    """Give a new connection these pieces, one after the other, for as long as it reads."""
    connection = ClientConnection(host)
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, transport))
    for piece in pieces:
        if not transport.is_reading():
            break
        connection.data_received(piece)
    return Fed(transport=transport, connection=connection)


class Seen(msgspec.Struct):
    """One request that reached an operation."""

    path: str
    body: bytes


def seeing(seen: list[Seen], *, answers: bool) -> Any:
    """A stand-in for `find_operation`: notes every request; answers it at once, or never."""

    def handle(host: Any, client: Any, request: Request, loaded: Any) -> Outcome:
        seen.append(Seen(path=request.path, body=request.body))
        if answers:
            client.answer(200, b"text/plain", b"", b"")
        return None

    def find(method: str, path: str) -> Operation:
        return Operation(method, handle, needs_key=False)

    return find


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut at these places (modulo the length)."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]
