"""Sends spans to an OTLP endpoint (OTLP/HTTP, JSON) from a thread beside the observer's work.

https://opentelemetry.io/docs/specs/otlp/#otlphttp : one POST for each batch; 429, 502, 503 and 504
and a lost connection are tried again, with waits that double and differ by chance; other answers
are final. What comes while the queue is full is dropped, and so is what was given up: traces are
no records. Redirects are not followed, and addresses at which a cloud keeps its secrets are not
asked (`fairlead.domain.outbound`).
"""

from __future__ import annotations

import http.client
import logging
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import InvalidInput
from fairlead.domain.outbound import allowed, check_host, without_credentials
from fairlead.observer.spans import encode_spans
from fairlead.wire.record import RequestRecord

PATH = "/v1/traces"
QUEUE_MAX = 10_000
"""Requests whose spans wait at most."""
BATCH_MAX = 500
BATCH_EVERY_S = 2.0
POST_TIMEOUT_S = 10.0
ATTEMPTS = 6
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 30.0
AGAIN = frozenset({429, 502, 503, 504})
ANSWER_BYTES_MAX = 64 * 1024
LOG_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class Endpoint(NamedTuple):
    """Where spans are sent."""

    host: str
    port: int
    is_tls: bool
    path: str


class Answer(NamedTuple):
    """What the endpoint said; `wait_s` is for how long it asks to be left alone, 0 for nothing."""

    status: int
    wait_s: float
    body: bytes


class _Partial(msgspec.Struct, rename="camel"):
    # Protobuf's JSON writes 64 bits as a string; not everybody does.
    rejected_spans: int | str = 0


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


def parse_endpoint(url: str) -> Endpoint:
    """`http(s)://host[:port][/path]`; `/v1/traces` is put behind it unless it is there.

    Raises InvalidInput.
    """
    hint, shown = "for instance http://127.0.0.1:4318", without_credentials(url)
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        check_host(host)
    except ValueError as error:
        raise InvalidInput(f"the OTLP endpoint {shown!r}: {error}", hint=hint) from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment or not is_plain:
        raise InvalidInput(
            f"the OTLP endpoint {shown!r} is no plain http or https address", hint=hint
        )
    path = parts.path.rstrip("/").removesuffix(PATH) + PATH
    return Endpoint(host, port, parts.scheme == "https", path)


def post(endpoint: Endpoint, body: bytes) -> Answer:
    """One POST on a connection of its own. Raises OSError or HTTPException when it fails."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    try:
        connection.sock = _connect(endpoint)
        headers = {"content-type": "application/json", "user-agent": "fairlead"}
        connection.request("POST", endpoint.path, body, headers)
        answer = connection.getresponse()
        wait = answer.headers.get("retry-after", "")
        wait_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
        return Answer(answer.status, wait_s, answer.read(ANSWER_BYTES_MAX))
    finally:
        connection.close()


def _connect(endpoint: Endpoint) -> socket.socket:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    addresses = allowed((str(entry[4][0]) for entry in found), link_local=False)
    failed: OSError | None = None
    for address in addresses:
        try:
            made = socket.create_connection((address, endpoint.port), POST_TIMEOUT_S)
        except OSError as error:
            failed = error
            continue
        if not endpoint.is_tls:
            return made
        return ssl.create_default_context().wrap_socket(made, server_hostname=endpoint.host)
    raise failed or OSError(f"{endpoint.host} has no address that spans are sent to")


class SpanSender:
    """See the head of this file.

    Attributes:
        counts: Requests by what became of their spans: sent, dropped (the queue was full), failed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        post: Callable[[Endpoint, bytes], Answer] = post,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._post = post
        self._chance = chance
        self._queue: deque[RequestRecord] = deque()
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._logged_at = float("-inf")
        self.counts = {"sent": 0, "dropped": 0, "failed": 0}
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def offer(self, records: Sequence[RequestRecord]) -> None:
        """Take those that are traced, as far as there is room; never waits."""
        for record in records:
            if not record.trace:
                continue
            if len(self._queue) >= QUEUE_MAX:
                self._count("dropped", 1)
                continue
            self._queue.append(record)
        if len(self._queue) >= BATCH_MAX:
            self._filled.set()

    def finish(self, seconds: float) -> None:
        """Send what is there once more, for so long at most."""
        self._stopping.set()
        self._filled.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._filled.wait(BATCH_EVERY_S)
            self._filled.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(self._size())])

    def _size(self) -> int:
        return min(BATCH_MAX, len(self._queue))

    def _send(self, records: list[RequestRecord]) -> None:
        try:
            body = encode_spans(records)
        except (ValueError, OverflowError) as error:  # such as a time that is no number
            self._count("failed", len(records))
            self._tell(len(records), f"they cannot be written as spans: {error}")
            return
        why = ""
        for attempt in range(ATTEMPTS):
            wait_s = 0.0
            try:
                answer = self._post(self._endpoint, body)
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
            else:
                if 200 <= answer.status < 300:
                    rejected = min(len(records), _rejected(answer.body))
                    self._count("failed", rejected)
                    self._count("sent", len(records) - rejected)
                    return
                why, wait_s = f"it answered {answer.status}", answer.wait_s
                if answer.status not in AGAIN:
                    break
            if attempt + 1 == ATTEMPTS or self._stopping.wait(self._pause_s(attempt, wait_s)):
                break
        self._count("failed", len(records))
        self._tell(len(records), why)

    def _pause_s(self, attempt: int, asked_s: float) -> float:
        own = min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0**attempt) * (0.5 + 0.5 * self._chance())
        return max(own, min(asked_s, BACK_OFF_S_MAX))

    def _count(self, outcome: str, by: int) -> None:
        with self._lock:
            self.counts[outcome] += by

    def _tell(self, spans: int, why: str) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            _log.warning("%d spans were not sent to %s: %s", spans, self._endpoint.host, why)


def _rejected(body: bytes) -> int:
    """How many spans of a batch the endpoint did not take though it took the batch."""
    try:
        said: Any = decode_json(body or b"{}", _Response)
        return (
            0 if said.partial_success is None else max(0, int(said.partial_success.rejected_spans))
        )
    except (msgspec.DecodeError, ValueError):
        return 0
