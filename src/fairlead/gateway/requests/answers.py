"""What is found in an answer's text, for services whose metrics need it: refusals, broken JSON.

Others pay for nothing of this: their assignments name no facts. What is kept of an answer is its
text up to a bound, beyond which nobody looks: a longer answer counts as well-formed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.decoding import decode_json, decode_with
from fairlead.domain.outcomes import ANSWERED_WELL, BLOCKED, CLIENT_ERRORS, GIVEN_UP
from fairlead.domain.quota import PICO, Price
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.metering import Usage
from fairlead.gateway.requests.refusals import HEAD_CHARS, is_refusal
from fairlead.gateway.streams import events

REFUSAL, FORMAT, JSON = "refusal", "format", "json"
FORMAT_CHARS = 256 * 1024
"""Characters of an answer that is to be JSON."""

_REFUSED_BY = frozenset({"content_filter", "refusal"})
"""Reasons of an engine for ending an answer that say so themselves."""

_JSON_TYPES = frozenset({"json_object", "json_schema"})
UNSEEN = (-1, -1)


class _Part(msgspec.Struct):
    """A message, or what is added to one; a list of content is of parts that are typed."""

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


class _Piece(msgspec.Struct):
    """An answer or an event, of any of the APIs."""

    choices: list[_Choice] | None = None
    type: str | None = None
    delta: str | _Part | None = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    output: list[_Output] | None = None


class _Typed(msgspec.Struct):
    type: str | None = None


class _TextFormat(msgspec.Struct):
    format: _Typed | None = None


class _Asked(msgspec.Struct):
    response_format: _Typed | None = None
    text: _TextFormat | None = None


_piece = msgspec.json.Decoder(_Piece)
_asked = msgspec.json.Decoder(_Asked)


class AnswerReading:
    """Reads one answer, as the client gets it."""

    __slots__ = ("_chars", "_is_cut", "_json", "_looks", "_refused", "_room", "_texts")

    def __init__(self, facts: tuple[str, ...], call: Call) -> None:
        self._looks = REFUSAL in facts
        self._json = JSON in facts or (FORMAT in facts and asks_json(call.body))
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
        elif self._json:
            malformed = int(not is_answer or not (self._is_cut or _is_json(text)))
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

    def _parts(self, parts: list[dict[str, Any]] | None) -> None:
        for part in parts or ():
            text = part.get("text")
            self._add(text if isinstance(text, str) else None)
            self._refused = self._refused or part.get("type") == "refusal"

    def _ended_by(self, reason: str | None) -> None:
        self._refused = self._refused or reason in _REFUSED_BY

    def _add(self, text: str | None) -> None:
        if not text:
            return
        room = self._room - self._chars
        self._is_cut = self._is_cut or (self._json and len(text) > room)
        self._texts.append(text[:room])
        self._chars += min(len(text), room)


def reading_of(facts: tuple[str, ...], call: Call) -> AnswerReading | None:
    """What reads the answer of this request; None if there is nothing to look for."""
    return AnswerReading(facts, call) if facts else None


def cost_usd(price: Price | None, usage: Usage) -> float:
    """What an answer cost; -1 where price or tokens are not known."""
    if price is None or usage.prompt_tokens < 0 or usage.completion_tokens < 0:
        return -1.0
    return price.cost(usage.prompt_tokens, usage.completion_tokens) / PICO


def asks_json(body: bytes) -> bool:
    """Whether a request asks for an answer in JSON."""
    if b"json_" not in body:
        return False
    try:
        asked = decode_with(_asked, body)
    except msgspec.DecodeError:
        return False
    kind = asked.response_format
    if kind is None and asked.text is not None:
        kind = asked.text.format
    return kind is not None and kind.type in _JSON_TYPES


def _is_json(text: str) -> bool:
    try:
        decode_json(text.encode(errors="surrogatepass"), msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
