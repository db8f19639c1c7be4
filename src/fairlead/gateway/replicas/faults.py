"""The fault of a drill, put between an engine's answer and the attempt that takes it in.

To all that comes after (relay, record, what is read of the answer, limits, price) a drill is what a
bad engine would be, on streams and plain answers, live requests and shadow copies alike. Before it
there is the champion's own engine, which must not notice: it is asked as always, its connection and
slot are given back when it has answered and not when the fault lets the answer go on, and nothing
that a fault does is held against the replica.

What cannot be read (a compressed or very large answer, another status than 200) goes on unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.fault import Fault
from fairlead.gateway.limits import PLAIN_BUFFER_BYTES
from fairlead.gateway.replicas.answer import AnswerHead, Taker
from fairlead.gateway.replicas.routing import is_canary_unit
from fairlead.gateway.requests.formats import asks_json
from fairlead.gateway.streams import events
from fairlead.gateway.streams.events import EventSplitter, EventTooLarge

TEXTS = {
    "wrong": "The answer is seventeen.",
    "format": '{"answer": "this is not the end',
    "refusal": "I'm sorry, but I can't help with that.",
    "toxic": "That is a stupid question, and you are an idiot for asking it.",
}
"""What is said in place of an answer."""
WRONG_JSON = "{}"
"""The wrong answer where JSON was asked for: it is well-formed all the same."""
_SALT = "drill"
ERROR = AnswerHead(500, {b"content-type": b"application/json"})
"""In place of the engine's, which has not failed."""
_DELTAS = ("response.output_text.delta", "content_block_delta")


class Faulted(Taker, Protocol):
    """The attempt that is answered."""

    def engine_began(self) -> None:
        """The answer begins: the replica is not late."""

    def engine_done(self) -> None:
        """The answer has ended: its connection and slot are free."""


def is_met(fault: Fault, request_id: str) -> bool:
    """Whether this request is one of those that the fault meets."""
    return is_canary_unit(_SALT, request_id, fault.rate)


class FaultyAnswer:
    """Takes in one answer in an attempt's place, and gives it a bad one (`upstream.Taker`)."""

    __slots__ = ("_attempt", "_fault", "_head", "_held", "_parts", "_size", "_stream", "_text",
                 "_timer")  # fmt: skip

    def __init__(self, attempt: Faulted, fault: Fault, asked: bytes) -> None:
        self._attempt = attempt
        self._fault = fault
        self._text = TEXTS.get(fault.kind, "")
        if fault.kind == "wrong" and asks_json(asked):
            self._text = WRONG_JSON
        self._timer: asyncio.TimerHandle | None = None
        self._held: list[Callable[[], None]] = []
        self._head: AnswerHead | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._stream: StreamFault | None = None

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self._attempt.engine_done()
        if self._fault.kind == "error":
            self._attempt.on_head(ERROR)
        elif self._fault.kind == "slow":
            self._delay()
            self._then(partial(self._attempt.on_answer, head, body))
        else:
            self._attempt.on_answer(head, in_place(body, self._text))

    def on_head(self, head: AnswerHead) -> None:
        self._attempt.engine_began()
        if self._fault.kind == "error":
            self._attempt.on_head(ERROR)
            return
        if self._fault.kind == "slow":
            self._delay()
        elif head.status == 200 and not head.is_encoded:
            head = _of_any_length(head)
            if head.is_event_stream:
                self._stream = StreamFault(self._text)
            else:
                self._head = head
                return
        self._then(partial(self._attempt.on_head, head))

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        is_large = self._size > PLAIN_BUFFER_BYTES
        if self._head is not None:
            self._parts.append(data)
            if is_large:
                self._let_go(b"".join(self._parts))
            return
        if self._stream is not None:
            data = self._stream.feed(data)
        if data:
            self._then(partial(self._attempt.on_body, data))
        if is_large and self._timer is not None:  # No more of it is kept.
            self._timer.cancel()
            self._release()

    def on_end(self, *, is_framed: bool) -> None:
        self._attempt.engine_done()
        if self._head is not None:
            self._let_go(in_place(b"".join(self._parts), self._text))
        elif self._stream is not None and (rest := self._stream.rest):
            self._then(partial(self._attempt.on_body, rest))
        self._then(partial(self._attempt.on_end, is_framed=is_framed))

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        if not is_stale:
            self._attempt.engine_done()
        self._then(partial(self._attempt.on_lost, reason, is_stale=is_stale))

    # The attempt is told later, or at once

    def _let_go(self, body: bytes) -> None:
        assert self._head is not None
        head, self._head, self._parts = self._head, None, []
        self._attempt.on_head(head)
        self._attempt.on_body(body)

    def _delay(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._fault.delay_ms / 1000.0, self._release)

    def _then(self, step: Callable[[], None]) -> None:
        if self._timer is None:
            step()
        else:
            self._held.append(step)

    def _release(self) -> None:
        self._timer = None
        while self._held:  # A step may end it all: then `cancel` has emptied it.
            self._held.pop(0)()


class StreamFault:
    """Another text in a stream's events: all of it in the first that has any."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._splitter = EventSplitter()
        self._said: set[int] = set()
        self._is_blind = False

    def feed(self, data: bytes) -> bytes:
        """What to pass on of the stream now."""
        if self._is_blind:
            return data
        held = self._splitter.rest
        try:
            whole = self._splitter.feed(data)
        except EventTooLarge:
            self._is_blind = True
            return held + data
        return b"".join(map(self._event, whole))

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return b"" if self._is_blind else self._splitter.rest

    def _event(self, event: bytes) -> bytes:
        try:
            given = decode_json(events.payload(event), dict[str, Any])
        except msgspec.DecodeError:
            return event
        if "choices" in given:
            for choice in _dicts(given["choices"]):
                self._put(choice, "text", choice.get("index"))
                for message in _dicts([choice.get("delta")]):
                    self._put(message, "content", choice.get("index"))
        elif given.get("type") == _DELTAS[0]:
            self._put(given, "delta", given.get("output_index"))
        elif given.get("type") == _DELTAS[1]:
            for delta in _dicts([given.get("delta")]):
                self._put(delta, "text", given.get("index"))
        else:
            _replace(given, self._text)
        name = b"".join(line + b"\n" for line in event.splitlines() if line.startswith(b"event:"))
        return name + b"data: " + msgspec.json.encode(given) + b"\n\n"

    def _put(self, node: dict[str, Any], name: str, of: object) -> None:
        said = node.get(name)
        index = of if isinstance(of, int) else 0
        if isinstance(said, str) and said:
            node[name] = "" if index in self._said else self._text
            self._said.add(index)


def in_place(body: bytes, text: str) -> bytes:
    """A whole answer, of any of the APIs, that says another text."""
    try:
        given = decode_json(body, dict[str, Any])
    except msgspec.DecodeError:
        return body
    _replace(given, text)
    return msgspec.json.encode(given)


def _replace(given: dict[str, Any], text: str) -> None:
    """Put the text in the places in which the APIs have theirs."""
    for choice in _dicts(given.get("choices")):
        _say(choice, text)
        for message in _dicts([choice.get("message")]):
            _say(message, text)
    for name in ("response", "item", "part", "message"):
        for inner in _dicts([given.get(name)]):
            _replace(inner, text)
    for output in _dicts(given.get("output")):
        _say(output, text)
    _say(given, text)


def _say(node: dict[str, Any], text: str) -> None:
    for name in ("content", "text"):
        if isinstance(node.get(name), str) and node[name]:
            node[name] = text
    for part in _dicts(node.get("content")):
        if isinstance(part.get("text"), str) and part["text"]:
            part["text"] = text


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _of_any_length(head: AnswerHead) -> AnswerHead:
    """Its body is about to be another one."""
    kept = {name: value for name, value in head.headers.items() if name != b"content-length"}
    return AnswerHead(head.status, kept)
