"""How an engine reads a text that was said, asked of the engine that is to go on from it.

It says how much of the limit is left, and shows when a model's answers are not read back as the
tokens that were said: it would go on with something else from them. That is so where a model says
a word in other pieces than a tokenizer would cut it into, or was trained with whole phrases as
tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import accumulate

import msgspec

from fairlead.gateway.limits import RECOUNT_BYTES_MAX
from fairlead.gateway.replicas.answer import UNWELL, AnswerHead
from fairlead.wire.snapshot import VLLM

PATH = "/tokenize"
_MORE_MAX = 2
"""Tokens that reading may add at the beginning of a text (a mark, a space)."""
_NO_CHARACTER = "\ufffd".encode()
"""In place of bytes that were no text: which ones cannot be told."""


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
        ends: Where each token ends, in bytes, where `size` is known.
    """

    tokens: int
    size: int | None
    begins_with_space: bool
    ends: tuple[int, ...] = ()

    def tokens_in(self, text: str, lead: int = 0) -> int:
        """Tokens of the text alone.

        A tokenizer may put a space before a text. Where that became a token of its own, no answer
        has it: it would be taken off the limit, and the client would get one token less.

        Args:
            lead: Bytes that were read before the text, where `size` is known.
        """
        size = len(text.encode())
        if lead and self.size is not None:
            return sum(end > self.size - size for end in self.ends)
        is_put_before = self.begins_with_space and self.size == size + 1
        return self.tokens - is_put_before

    def as_said(self, data: bytes, ends: Sequence[int], *, lead: int = 0) -> tuple[int, int] | None:
        """How far it reads a text as the tokens that were said: bytes, and tokens in them.

        Args:
            data: The text.
            ends: Where events with it end, in bytes; each has one token, or all of a character's.
                One of several tokens, as where text is held back, may have been said otherwise.
            lead: Bytes that were read before it: the first token must not begin in them.

        Returns:
            None when that cannot be told.
        """
        put_before = -1 if self.size is None else self.size - lead - len(data)
        if put_before not in (0, 1):
            return None
        begin = lead + put_before
        if lead and begin not in self.ends:
            return 0, 0
        unknown = data.find(_NO_CHARACTER)
        at = tokens = event = 0
        behind = (end - begin for end in self.ends if end > begin)
        for number, end in enumerate(behind, 1):
            if event == len(ends) or end > ends[event] or 0 <= unknown < end:
                break
            if end == ends[event]:
                at, tokens, event = end, number, event + 1
            elif data[end] & 0xC0 != 0x80:  # not within a character
                break
        return at, tokens


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
        if self._status in UNWELL:  # It loads its model, perhaps: another one may tell.
            self._on_failure(str(self._status), False)
            return
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
    ends = tuple(accumulate(token.size for token in pieces))
    return Reading(len(tokens), ends[-1], pieces[0].piece == " ", ends)
