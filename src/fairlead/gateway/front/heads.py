"""The head of a message, known again on the same connection without parsing it.

A client sends the same head with every request, and a replica with every answer, but for a few
values: the length of the body, the session, the date. So a connection remembers the last head that
passed all checks, with holes where these values stood. Bytes that are equal outside the holes, and
have in each hole a value of its plain form (which has no line ends), are a head that passes the
same checks with the same result. Everything else goes through the parser, and so does a message
whose body does not end exactly where its bytes do.
"""

from __future__ import annotations

import re

from fairlead.gateway.limits import KNOWN_HEAD_BYTES_MAX, KNOWN_HEAD_MISSES_MAX

LENGTH = b"content-length"
SESSION = b"x-session-id"
DATE = b"date"

_LENGTH_DIGITS_MAX = 9
_FORMS = {
    SESSION: re.compile(rb"[!-~]{1,256}"),
    DATE: re.compile(rb"[A-Za-z0-9,: ]{1,40}"),
}
_SESSION_FORM = _FORMS[SESSION]
_VALUE_BYTES_MAX = 257
_END = b"\r\n\r\n"
_ZERO = ord("0")

REQUEST_LINES = re.compile(rb"\r\n(content-length|x-session-id): ", re.IGNORECASE)
ANSWER_LINES = re.compile(rb"\r\n(content-length|date): ", re.IGNORECASE)

Message = tuple[bytes, bytes | None]
"""A message's body, and its session where its head names one."""


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX and not value.startswith(b"0")


class KnownHead:
    """The head that one connection remembers.

    Args:
        lines: Finds the beginnings of the lines whose values are holes.
    """

    __slots__ = ("_after", "_before", "_holes", "_lines", "_misses", "_session", "_size", "_tail")

    def __init__(self, lines: re.Pattern[bytes]) -> None:
        self._lines = lines
        # The last message's bytes before and after its length, the other holes filled as there.
        self._before = b""
        self._after = b""
        self._size = 0
        self._session: bytes | None = None
        # What comes before a hole, its size, and the form of the hole (None for the length's).
        self._holes: list[tuple[bytes, int, re.Pattern[bytes] | None]] = []
        self._tail = b""
        self._misses = 0

    def message(self, data: bytes) -> Message | None:
        """The message, when these bytes are exactly one with the remembered head."""
        size = self._size
        if size and data.startswith(self._before):
            at = data.find(b"\r", size, size + _LENGTH_DIGITS_MAX + 1)
            after = self._after
            if at > size and data.startswith(after, at) and data[size] != _ZERO:
                digits = data[size:at]
                body = data[at + len(after) :]
                if digits.isdigit() and len(body) == int(digits):
                    return body, self._session
        return self._other_message(data) if self._tail else None

    def _other_message(self, data: bytes) -> Message | None:
        """The same for a message whose holes are filled otherwise than in the one before."""
        at = 0
        length = -1
        session = None
        length_at = length_end = 0
        for before, size, form in self._holes:
            if not data.startswith(before, at):
                return None
            begin = at + size
            at = data.find(b"\r", begin, begin + _VALUE_BYTES_MAX)
            if at < 0:
                return None
            value = data[begin:at]
            if form is None:
                if not _is_length(value):
                    return None
                length = int(value)
                length_at, length_end = begin, at
            elif form.fullmatch(value) is None:
                return None
            elif form is _SESSION_FORM:
                session = value
        if not data.startswith(self._tail, at):
            return None
        end = at + len(self._tail)
        body = data[end:]
        if len(body) != length:
            return None
        self._misses = 0
        self._before, self._after = data[:length_at], data[length_end:end]
        self._size, self._session = length_at, session
        return body, session

    def learn(self, data: bytes, length: int, session: bytes | None = None) -> None:
        """Remember the head at the beginning of these bytes, which passed all checks.

        Args:
            length, session: What the parser found; a head from whose plain reading they differ is
                not remembered.
        """
        self._tail = b""
        self._size = 0
        end = data.find(_END, 0, KNOWN_HEAD_BYTES_MAX)
        if end < 0 or self._misses > KNOWN_HEAD_MISSES_MAX:
            return
        self._misses += 1
        head = data[: end + len(_END)]
        holes = []
        values: dict[bytes, bytes] = {}
        at = 0
        for line in self._lines.finditer(head):
            name = line[1].lower()
            form = _FORMS.get(name)
            stop = head.find(b"\r", line.end())
            value = head[line.end() : stop]
            is_plain = _is_length(value) if form is None else form.fullmatch(value) is not None
            if name in values or not is_plain:
                return
            values[name] = value
            holes.append((head[at : line.end()], line.end() - at, form))
            at = stop
        if values.get(LENGTH) == b"%d" % length and values.get(SESSION) == session:
            self._holes = holes
            self._tail = head[at:]
