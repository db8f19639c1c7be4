"""What is found in an answer's text, for services whose metrics need it: refusals, broken formats.

Others pay for nothing of this: their assignments name no facts. What is kept of an answer is its
text up to a bound, beyond which nobody looks: a longer answer counts as well-formed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.domain.outcomes import ANSWERED_WELL, BLOCKED, CLIENT_ERRORS, GIVEN_UP
from fairlead.domain.quota import PICO, Price
from fairlead.gateway.requests.call import Call as Request
from fairlead.gateway.requests.formats import CALLS_MAX, Call, Format
from fairlead.gateway.requests.refusals import HEAD_CHARS, is_refusal
from fairlead.gateway.requests.usage import Usage
from fairlead.gateway.streams import events

REFUSAL, FORMAT, JSON = "refusal", "format", "json"
FORMAT_CHARS = 256 * 1024
"""Characters of an answer that is to be JSON."""

_REFUSED_BY = frozenset({"content_filter", "refusal"})
"""Reasons of an engine for ending an answer that say so themselves."""

UNSEEN = (-1, -1)


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    """A call of a tool, or what is added to one."""

    index: int | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    """A message, or what is added to one; a list of content is of parts that are typed."""

    tool_calls: list[_ToolCall] | None = None
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    text: str | None = None
    stop_reason: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Part | None = None
    delta: _Part | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Output(msgspec.Struct):
    content: list[dict[str, Any]] | None = None
    type: str | None = None
    name: str | None = None
    arguments: str | None = None


class _Piece(msgspec.Struct):
    """An answer or an event, of any of the APIs."""

    choices: list[_Choice] | None = None
    type: str | None = None
    delta: str | _Part | None = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    output: list[_Output] | None = None


_piece = msgspec.json.Decoder(_Piece)


class AnswerReading:
    """Reads one answer, as the client gets it."""

    __slots__ = (
        "_calls", "_chars", "_format", "_is_cut", "_json", "_looks", "_refused", "_room", "_texts",
    )  # fmt: skip

    def __init__(self, facts: tuple[str, ...], call: Request) -> None:
        self._looks = REFUSAL in facts
        self._format: Format | None = None
        if JSON in facts or FORMAT in facts:
            self._format = Format(call.body, always_json=JSON in facts)
        # Whether an answer has a format to keep follows from the request alone.
        self._json = self._format is not None and self._format.is_declared
        self._calls: dict[int, Call] = {}
        self._room = FORMAT_CHARS if self._json else HEAD_CHARS
        self._texts: list[str] = []
        self._chars = 0
        self._is_cut = False
        self._refused = False

    def whole(self, body: bytes) -> None:
        """A plain answer."""
        self._take(body)

    def sent(self, data: bytes, *, is_stream: bool) -> None:
        """A part of an answer: whole events of a stream; of a large plain one nobody can read."""
        if self._is_full or not is_stream:
            self._is_cut = self._is_cut or not is_stream
            return
        for event in data.replace(b"\r\n", b"\n").split(b"\n\n"):
            payload = events.payload(event)
            if payload.startswith(b"{"):
                self._take(payload)

    def found(self, status: int, error: str) -> tuple[int, int]:
        """(refused, malformed), as a record has them, with this status and error."""
        is_answer = error in ANSWERED_WELL and status < CLIENT_ERRORS
        refused = malformed = -1
        text = "".join(self._texts)
        if self._looks and is_answer:
            refused = int(self._refused or is_refusal(text))
        elif self._looks and error == BLOCKED:
            refused = 1
        if self._json and status == GIVEN_UP:
            malformed = 0
        elif self._json and self._format is not None:
            calls = list(self._calls.values())
            broken = not self._is_cut and self._format.is_broken_by(text, calls)
            malformed = int(not is_answer or broken)
        return refused, malformed

    @property
    def _is_full(self) -> bool:
        return self._is_cut or (self._chars >= self._room and not self._json)

    def _take(self, payload: bytes) -> None:
        try:
            piece = decode_with(_piece, payload)
        except msgspec.DecodeError:
            return
        for choice in piece.choices or ():
            if choice.index == 0:
                self._choice(choice)
        if piece.type == "response.refusal.delta":
            self._refused = True
        elif isinstance(piece.delta, str) and piece.type == "response.output_text.delta":
            self._add(piece.delta)
        elif isinstance(piece.delta, _Part):
            self._message(piece.delta)
        self._parts(piece.content)
        for output in piece.output or ():
            self._parts(output.content)
            if output.type == "function_call":
                self._called(len(self._calls), output.name, output.arguments)
        self._ended_by(piece.stop_reason)

    def _choice(self, choice: _Choice) -> None:
        self._add(choice.text)
        for message in (choice.message, choice.delta):
            if message is not None:
                self._message(message)
        self._ended_by(choice.finish_reason)

    def _message(self, message: _Part) -> None:
        if isinstance(message.content, list):
            self._parts(message.content)
        else:
            self._add(message.content)
        self._add(message.text)
        self._ended_by(message.stop_reason)
        self._refused = self._refused or bool(message.refusal)
        for place, called in enumerate(message.tool_calls or ()):
            if called.function is not None:
                index = place if called.index is None else called.index
                self._called(index, called.function.name, called.function.arguments)

    def _called(self, index: int, name: str | None, arguments: str | None) -> None:
        """A call of a tool, or more of one."""
        if not self._json or (index not in self._calls and len(self._calls) >= CALLS_MAX):
            return
        call = self._calls.setdefault(index, Call())
        call.name = call.name or name or ""
        room = self._room - self._chars
        more = arguments or ""
        self._is_cut = self._is_cut or len(more) > room
        call.arguments += more[:room]
        self._chars += min(len(more), room)

    def _parts(self, parts: list[dict[str, Any]] | None) -> None:
        for part in parts or ():
            text = part.get("text")
            self._add(text if isinstance(text, str) else None)
            self._refused = self._refused or part.get("type") == "refusal"
            if part.get("type") == "tool_use" and isinstance(part.get("input"), dict):
                given = msgspec.json.encode(part["input"]).decode()
                self._called(len(self._calls), str(part.get("name")), given)

    def _ended_by(self, reason: str | None) -> None:
        self._refused = self._refused or reason in _REFUSED_BY

    def _add(self, text: str | None) -> None:
        if not text:
            return
        room = self._room - self._chars
        self._is_cut = self._is_cut or (self._json and len(text) > room)
        self._texts.append(text[:room])
        self._chars += min(len(text), room)


def reading_of(facts: tuple[str, ...], call: Request) -> AnswerReading | None:
    """What reads the answer of this request; None if there is nothing to look for."""
    return AnswerReading(facts, call) if facts else None


def cost_usd(price: Price | None, usage: Usage) -> float:
    """What an answer cost; -1 where price or tokens are not known."""
    if price is None or usage.prompt_tokens < 0 or usage.completion_tokens < 0:
        return -1.0
    return price.cost(usage.prompt_tokens, usage.completion_tokens) / PICO
