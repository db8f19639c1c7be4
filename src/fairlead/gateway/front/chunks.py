"""The framing of a chunked request body, looked at byte by byte. Pure.

llhttp takes chunk sizes with any number of zeros and extensions of any length and content. Other
implementations differ in how they read these (a line feed in an extension begins a new line for
some), so none is accepted: a chunk begins with 1 to 16 hex digits and CRLF. Clients send neither.
"""

from __future__ import annotations

_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_DIGITS_MAX = 16
_LINE_MAX = _DIGITS_MAX + 2


class ChunkFraming:
    """Follows a chunked body over any number of pieces.

    Args:
        size_max: Largest chunk: a larger one would be waited for in vain.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._line = b""
        self._left = 0
        self.is_over = False

    def feed(self, data: bytes) -> bool:
        """Whether the framing is as it must be, as far as it has come."""
        at = 0
        while at < len(data) and not self.is_over:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at, at + _LINE_MAX)
            stop = at + _LINE_MAX if end < 0 else end + 1
            self._line += data[at:stop]
            at = min(stop, len(data))
            if end < 0:
                return self._may_become_a_size()
            if not self._begin_chunk():
                return False
        return True

    def _may_become_a_size(self) -> bool:
        digits = self._line.removesuffix(b"\r")
        return len(digits) <= _DIGITS_MAX and _DIGITS.issuperset(digits)

    def _begin_chunk(self) -> bool:
        line, self._line = self._line, b""
        digits = line[:-2]
        if not line.endswith(b"\r\n") or not 0 < len(digits) <= _DIGITS_MAX:
            return False
        if not _DIGITS.issuperset(digits):
            return False
        size = int(digits, 16)
        if size > self._size_max:
            return False
        # The data's own CRLF is llhttp's to check. What follows the last chunk is its, too.
        self._left = size + 2
        self.is_over = size == 0
        return True
