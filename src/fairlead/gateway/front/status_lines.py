"""Status lines, built once."""

from __future__ import annotations

from http import HTTPStatus

_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}".encode() for s in HTTPStatus}


def status_line(status: int) -> bytes:
    """The line for a status; one that nobody knows gets no phrase."""
    return _LINES.get(status) or f"HTTP/1.1 {status} ".encode()
