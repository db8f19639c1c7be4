"""Keeps a sample of prompts and answers: chosen at the start, written once the client is answered.

A request of the sample has a `CapturedRequest` between its exchange and its client's connection,
which sees every end that either of them makes; all other requests know nothing of it. What it
keeps is read, redacted and cut in a turn of the event loop of its own, and goes into the spool
like a record. Until then `complete_until` waits for it, so that whoever has read up to a moment
has all samples from before it.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from fairlead.domain.capture import Capture, is_captured
from fairlead.domain.redaction import redactor
from fairlead.gateway.copies.captured_text import Turn, answer_of, prompt_of, streamed_answer_of
from fairlead.gateway.errors import Refusal
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.requests.call import Call, Client, Headers, Running
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.wire.record import SampleRecord

BODY_BYTES_MAX = 512 * 1024
"""A request with a larger body is not chosen."""
ANSWER_BYTES_MAX = 1 << 20
"""Bytes of an answer on the wire that are looked at."""
_MARGIN = 4096
"""Characters beyond the bound that are redacted, too: what the cut goes through is whole there."""
_MINUTE_S = 60.0
_OK = 200
_log = logging.getLogger("fairlead.gateway")


class Captures:
    """The samples of one worker.

    Attributes:
        workers: How many gateway workers share the bound of samples in a minute.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.workers = 1
        self._loop = asyncio.get_running_loop()
        self._begun: dict[str, tuple[int, int]] = {}
        """By service: the minute, and how many samples were begun in it."""
        self._open: set[CapturedRequest] = set()

    def take(self, client: Client, call: Call, now: float) -> CapturedRequest | None:
        """See `call.Captures`. Nothing here depends on which release is to answer."""
        capture, service = call.service.route.capture, call.service.route.name
        if (
            capture is None
            or not self._recorder.keeps_records
            or call.kind == EMBEDDINGS
            or len(call.body) > BODY_BYTES_MAX
            or not is_captured(capture, call.assignment.unit)
            or not self._has_room(service, capture, now)
        ):
            return None
        captured = CapturedRequest(self, client, call, capture)
        captured.at = self._recorder.opened(captured, now)
        self._open.add(captured)
        return captured

    @property
    def open_count(self) -> int:
        """Samples that are not written yet."""
        return len(self._open)

    def over(self, captured: CapturedRequest) -> None:
        """Its request has ended: write it, in a turn of its own."""
        self._loop.call_soon(self._write, captured)

    def close(self) -> None:
        """Write what there is."""
        for captured in list(self._open):
            self._write(captured)

    def _has_room(self, service: str, capture: Capture, now: float) -> bool:
        minute, begun = self._begun.get(service, (0, 0))
        if minute != int(now // _MINUTE_S):
            minute, begun = int(now // _MINUTE_S), 0
        if begun * self.workers >= capture.per_minute:
            return False
        self._begun[service] = minute, begun + 1
        return True

    def _write(self, captured: CapturedRequest) -> None:
        if captured not in self._open:
            return
        self._open.discard(captured)
        try:
            record = captured.record()
        except Exception as error:  # noqa: BLE001 - a sample must not end what serves requests
            # By its type alone: the message of an error may hold what was asked.
            _log.error("no sample of a request: %s", type(error).__name__)
            self._recorder.dropped(captured)
        else:
            self._recorder.finish(captured, record, _nothing)


class CapturedRequest:
    """A client to its exchange, and a request to its client's connection."""

    __slots__ = (
        "_body", "_call", "_capture", "_captures", "_client", "_is_over", "_is_stream", "_request",
        "_size", "_status", "at",
    )  # fmt: skip

    def __init__(self, captures: Captures, client: Client, call: Call, capture: Capture) -> None:
        self._captures = captures
        self._client = client
        self._call = call
        self._capture = capture
        self._request: Running | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._status = 0
        self._is_stream = False
        self._is_over = False
        self.at = 0.0

    def around(self, request: Running) -> Running:
        """See `call.Captured`."""
        self._request = request
        return self

    def record(self) -> SampleRecord:
        """What is kept of it."""
        capture = self._capture
        prompt, prompt_cut = "", False
        if capture.prompts:
            said, has_more = prompt_of(self._call.body)
            turns, is_cut = _within(said, capture)
            prompt_cut = is_cut or has_more
            prompt = msgspec.json.encode(turns).decode()
        answer, answer_cut = self._answer() if capture.answers else ("", False)
        return SampleRecord(
            self._call.request_id,
            self._call.service.route.name,
            self._call.key_id,
            self._call.assignment.unit,
            self.at,
            self.at + capture.retention_s,
            prompt,
            answer,
            prompt_cut or answer_cut,
        )

    def _answer(self) -> tuple[str, bool]:
        if self._status != _OK:
            return "", False
        data = b"".join(self._body)
        text = streamed_answer_of(data) if self._is_stream else answer_of(data)
        kept, is_cut = _cut(text, self._capture)
        return kept, is_cut or self._size > len(data)

    def _keep(self, data: bytes) -> None:
        if self._capture.answers and self._size + len(data) <= ANSWER_BYTES_MAX:
            self._body.append(data)
        self._size += len(data)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._captures.over(self)

    # call.Client

    def answer(self, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
        self._status = status
        self._keep(body)
        self._client.answer(status, content_type, body, headers)
        self._end()

    def begin(self, status: int, content_type: bytes, length: int | None, headers: Headers) -> None:
        self._status = status
        self._is_stream = content_type.startswith(b"text/event-stream")
        self._client.begin(status, content_type, length, headers)

    def part(self, data: bytes, chunks: bytes = b"") -> None:
        self._client.part(data, chunks)
        self._keep(data)

    def end(self, data: bytes, *, closes: bool) -> None:
        self._client.end(data, closes=closes)
        self._keep(data)
        self._end()

    def cut(self) -> None:
        self._client.cut()
        self._end()

    # call.Running

    @property
    def _running(self) -> Running:
        assert self._request is not None
        return self._request

    def start(self) -> None:
        self._running.start()

    def client_left(self) -> None:
        self._running.client_left()
        self._end()

    def pause(self) -> None:
        self._running.pause()

    def resume(self) -> None:
        self._running.resume()

    def shut_down(self, refusal: Refusal) -> None:
        self._running.shut_down(refusal)


def _within(turns: list[Turn], capture: Capture) -> tuple[list[Turn], bool]:
    """The last of what was said, redacted, within the bound; and whether something is missing."""
    kept: list[Turn] = []
    left = capture.bytes_max
    for role, text in reversed(turns):
        if left <= 0:
            return kept[::-1], True
        near = text[-(left + _MARGIN) :]
        redacted = redactor(capture.redact, capture.patterns)(near)
        data = redacted.encode(errors="replace")
        is_cut = len(near) < len(text) or len(data) > left
        kept.append((role[:32], data[-left:].decode(errors="ignore")))
        if is_cut:
            return kept[::-1], True
        left -= len(data)
    return kept[::-1], False


def _cut(text: str, capture: Capture) -> tuple[str, bool]:
    """The beginning of an answer, redacted, within the bound; and whether something is missing."""
    near = text[: capture.bytes_max + _MARGIN]
    data = redactor(capture.redact, capture.patterns)(near).encode(errors="replace")
    is_cut = len(near) < len(text) or len(data) > capture.bytes_max
    return data[: capture.bytes_max].decode(errors="ignore"), is_cut


def _nothing() -> None:
    """Nobody waits for it."""
