"""How many tokens a text has, asked of the engine that is to go on from it.

It says how much of the limit is left, and shows when a model's answers cannot be read back: one
that was trained with whole phrases as tokens, say, sees other tokens in the text than it had said,
and would go on with something else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from fairlead.gateway.limits import RECOUNT_BYTES_MAX
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.wire.snapshot import VLLM

PATH = "/tokenize"
_MORE_MAX = 2
"""Tokens that reading may add at the beginning of a text (a mark, a space)."""


class _Token(msgspec.Struct):
    piece: str | list[int]

    @property
    def size(self) -> int:
        """Bytes of text; what is no whole character comes as a list of bytes."""
        return len(self.piece.encode() if isinstance(self.piece, str) else self.piece)


class _Tokens(msgspec.Struct):
    tokens: list[int | _Token]


class Reading(msgspec.Struct, frozen=True):
    """How an engine reads a text.

    Attributes:
        size: Bytes of all that it read; None when it names tokens by their numbers only.
        begins_with_space: The first token is a space and nothing else.
    """

    tokens: int
    size: int | None
    begins_with_space: bool

    def tokens_in(self, text: str) -> int:
        """Tokens of the text alone.

        A tokenizer may put a space before a text. Where that became a token of its own, no answer
        has it: it would be taken off the limit, and the client would get one token less.
        """
        is_put_before = self.begins_with_space and self.size == len(text.encode()) + 1
        return self.tokens - is_put_before


_answer = msgspec.json.Decoder(_Tokens)


def question(text: str, engine: str, model: msgspec.Raw | None) -> bytes:
    """The body of the request for `PATH`."""
    if engine == VLLM:
        named = {} if model is None else {"model": model}
        return msgspec.json.encode({**named, "prompt": text, "add_special_tokens": False})
    return msgspec.json.encode({"content": text, "add_special": False, "with_pieces": True})


def tokens_of(text: str, engine: str, *, events: int, counted: int, has_stop: bool) -> int | None:
    """The tokens that were generated; None when the text is not what they are read back as.

    Args:
        events: Events with text; each has one token at least.
        counted: Tokens that the engine reads in the text.
        has_stop: The engine holds text back that may become a stop sequence.
    """
    if engine == VLLM:
        return max(events, counted)
    # llama.cpp sends one event per token, unless it waits for the rest of a character.
    held = len(text.encode()) - len(text)
    if has_stop or held:
        return max(events, counted) if has_stop or counted <= events + held + _MORE_MAX else None
    return events if counted <= events + _MORE_MAX else None


class Recount:
    """Takes in the answer (`upstream.Taker`).

    Args:
        on_count: Called with what the engine says, or None when it does not say.
        on_failure: Called when there is no answer, with the reason and whether it is stale.
    """

    def __init__(
        self,
        on_count: Callable[[Reading | None], None],
        on_failure: Callable[[str, bool], None],
    ) -> None:
        self._on_count = on_count
        self._on_failure = on_failure
        self._status = 0
        self._parts: list[bytes] = []
        self._bytes = 0

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self.on_head(head)
        self.on_body(body)
        self.on_end(is_framed=True)

    def on_head(self, head: AnswerHead) -> None:
        self._status = head.status

    def on_body(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes <= RECOUNT_BYTES_MAX:
            self._parts.append(data)

    def on_end(self, *, is_framed: bool) -> None:
        reading = None
        if self._status == 200 and self._bytes <= RECOUNT_BYTES_MAX:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                reading = _reading(_answer.decode(b"".join(self._parts)).tokens)
        self._on_count(reading)

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        self._on_failure(reason, is_stale)


def _reading(tokens: list[int | _Token]) -> Reading:
    pieces = [token for token in tokens if isinstance(token, _Token)]
    if len(pieces) < len(tokens) or not pieces:
        return Reading(len(tokens), None, begins_with_space=False)
    size = sum(token.size for token in pieces)
    return Reading(len(tokens), size, begins_with_space=pieces[0].piece == " ")
