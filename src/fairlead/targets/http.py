"""One HTTP/1.1 request on a connection of its own, for probes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httptools

ANSWER_BYTES_MAX = 4 * 1024 * 1024
READ_BYTES = 65536


class HttpFailed(Exception):
    """No answer: not reached, not HTTP, too long, or too late (`is_late`)."""

    def __init__(self, message: str, *, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_late = is_late


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    body: bytes


class _Collector:
    """Takes what httptools parses."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_complete = False
        self.has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def request(
    url: str, *, body: bytes | None, headers: Mapping[str, str], timeout_s: float
) -> Answer:
    """GET the URL, or POST the body to it as JSON. Redirects are not followed.

    Raises:
        HttpFailed: there was no whole answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(url, body, headers)
    except TimeoutError as error:
        raise HttpFailed(f"no answer within {timeout_s:g} s", is_late=True) from error
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise HttpFailed(f"what answers is no HTTP server: {error}") from error
    except (OSError, UnicodeError) as error:
        raise HttpFailed(f"not reached: {error}") from error


async def _exchange(url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=_tls() if secure else None
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(_head(parts.netloc, path, body, headers) + (body or b""))
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _head(host: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}"]
    lines += ["Connection: close", "Accept: application/json"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _answer(reader: asyncio.StreamReader) -> Answer:
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    received = 0
    while not collector.is_complete:
        data = await reader.read(READ_BYTES)
        received += len(data)
        if received > ANSWER_BYTES_MAX:
            raise HttpFailed("the answer is too long")
        if data:
            parser.feed_data(data)
        elif collector.body and not collector.has_length:
            # A body without a length ends with the connection.
            break
        else:
            raise HttpFailed("the connection was closed without an answer")
    return Answer(parser.get_status_code(), bytes(collector.body))
