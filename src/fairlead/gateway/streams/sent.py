"""What a client has of a stream, as far as it takes to go on with it. Pure.

What was passed on is kept as it was and read only when the stream breaks. A block of it is packed
once it is full: events of a stream are so much alike that one takes up a few bytes then. That is
cheaper than to take the text out of them.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from fairlead.gateway.limits import (
    CONTINUED_TEXT_BYTES_MAX,
    SENT_BLOCK_BYTES,
    SENT_PACKED_BYTES_MAX,
)
from fairlead.gateway.requests.usage import Usage
from fairlead.gateway.streams import events
from fairlead.gateway.streams.events import EventSplitter

SAME = ("id", "object", "created", "model", "system_fingerprint")
"""Fields that are the same in all events of a stream."""


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    """What may stand in a delta; only role and content can be gone on from."""

    role: str | None = None
    content: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    audio: Any = None
    annotations: Any = None

    @property
    def is_text(self) -> bool:
        """Whether it has nothing but text."""
        return not (
            self.tool_calls
            or self.function_call
            or self.reasoning_content
            or self.reasoning
            or self.refusal
            or self.audio
            or self.annotations
        )


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None


_one = msgspec.json.Decoder(_Event)
_many = msgspec.json.Decoder(list[_Event])
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Sent:
    """What a client has of a stream. Whole events only; `settle` before anything is read.

    Attributes:
        ends: Where the text of each event ends, in bytes of `text`.
    """

    def __init__(self) -> None:
        # not read yet
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._packed: list[bytes] = []
        self._packed_bytes = 0
        # read
        self._text = bytearray()
        self._silent = 0
        self._reported: Usage | None = None
        self.ends: list[int] = []
        self.is_continuable = True
        self.same: dict[str, msgspec.Raw] = {}
        self.has_role = False
        self.finish_reason: str | None = None
        self.has_usage = False
        self.tokens = 0
        self.solid_tokens = 0
        self.mixed_space = ""

    def add(self, data: bytes) -> None:
        """Note what was passed on."""
        if not self.is_continuable:
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > SENT_BLOCK_BYTES:
            self._pack()

    def settle(self) -> None:
        """Read what was noted."""
        packed, self._packed, self._packed_bytes = self._packed, [], 0
        held, self._held, self._held_bytes = self._held, [], 0
        for block in packed:
            self._read(zlib.decompress(block))
        self._read(b"".join(held))

    def _pack(self) -> None:
        packed = zlib.compress(b"".join(self._held), level=1)
        self._held, self._held_bytes = [], 0
        self._packed_bytes += len(packed)
        if self._packed_bytes > SENT_PACKED_BYTES_MAX:
            self._give_up()
        if self.is_continuable:
            self._packed.append(packed)

    def _read(self, block: bytes) -> None:
        if not block or not self.is_continuable:
            return
        try:
            for event in self._decode(block):
                self._take(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._give_up()
        if len(self._text) > CONTINUED_TEXT_BYTES_MAX:
            self._give_up()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text.decode()

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the prompt, where the engine said so with each event."""
        return self._reported.prompt_tokens if self._reported is not None else None

    def _decode(self, block: bytes) -> list[_Event]:
        plain = block.startswith(b"data: ") and block.endswith(b"\n\n") and b"\r" not in block
        if plain:
            try:
                found = _many.decode(b"[%b]" % block[6:-2].replace(b"\n\ndata: ", b","))
            except (msgspec.DecodeError, UnicodeDecodeError):
                plain = False  # It is not one JSON text per event and line.
        if not plain:
            found = [_one.decode(data) for data in _payloads(block)]
        if not self.same and found:
            first = _parts.decode(next(iter(_payloads(block))))
            # Copied: a raw part holds on to all that it was read from.
            self.same = {k: msgspec.Raw(bytes(first[k])) for k in SAME if k in first}
        return found

    def _take(self, event: _Event) -> None:
        if event.error is not None or len(event.choices) > 1:
            self._give_up()
        elif event.choices:
            self._take_choice(event.choices[0])
        if event.usage is not None:
            # With every event it says what there was so far; the last one is still to come then.
            self.has_usage = not event.choices or self.finish_reason is not None
            if event.usage.completion_tokens >= 0 and event.usage.prompt_tokens >= 0:
                self._reported = event.usage
                self.tokens = max(self.tokens, event.usage.completion_tokens)

    def _take_choice(self, choice: _Choice) -> None:
        delta = choice.delta
        if choice.index != 0 or choice.logprobs or (delta is not None and not delta.is_text):
            self._give_up()
            return
        has_role = delta is not None and delta.role is not None
        self.has_role = self.has_role or has_role
        text = (delta.content if delta is not None else choice.text) or ""
        if text:
            # An engine that has half of a character sends an event without text, or none at all.
            self.tokens += 1 + self._silent
            self._silent = 0
            self._text += text.encode()
            self.ends.append(len(self._text))
            if not text.isspace():
                self.mixed_space = text[len(text.rstrip()) :]
                self.solid_tokens = self.tokens - bool(self.mixed_space)
        elif not has_role and choice.finish_reason is None:
            self._silent += 1
        self.finish_reason = choice.finish_reason or self.finish_reason

    def _give_up(self) -> None:
        self.is_continuable = False
        self._text = bytearray()
        self.ends = []
        self._packed = []


def _payloads(block: bytes) -> list[bytes]:
    payloads = (events.payload(event) for event in EventSplitter().feed(block))
    return [data for data in payloads if data]
