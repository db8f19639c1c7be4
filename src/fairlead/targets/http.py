"""One HTTP/1.1 request on a connection of its own, for probes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult, urlsplit

import httptools

from fairlead.domain.outbound import (
    DIRECT,
    PROXY_ANSWER_BYTES_MAX,
    Outbound,
    allowed,
    check_host,
    connect_request,
    is_address,
    parse_proxy,
    tunnel_refusal,
)
from fairlead.domain.variables import value_of

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


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """What certificates are checked by; a file is read anew each time, since it may change."""
    return _system_tls() if ca_file is None else ssl.create_default_context(cafile=ca_file)


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def request(
    url: str,
    *,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    outbound: Outbound = DIRECT,
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """GET the URL, or POST the body to it as JSON. Redirects are not followed.

    Args:
        environ: Where the proxy's credentials are found.

    Raises:
        HttpFailed: there was no whole answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(url, body, headers, outbound, environ or {})
    except TimeoutError as error:
        raise HttpFailed(f"no answer within {timeout_s:g} s", is_late=True) from error
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise HttpFailed(f"what answers is no HTTP server: {error}") from error
    except (OSError, ValueError) as error:
        raise HttpFailed(f"not reached: {error}") from error


async def _exchange(
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    outbound: Outbound,
    environ: Mapping[str, str],
) -> Answer:
    parts = urlsplit(url)
    reader, writer = await _connect(parts, outbound, environ)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # Credentials in an address are for nobody: the header names the host alone.
        place = parts.netloc.rpartition("@")[2]
        writer.write(_head(place, path, body, headers) + (body or b""))
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect(
    parts: SplitResult, outbound: Outbound, environ: Mapping[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError, or ValueError for a host or proxy that is none."""
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    check_host(host, link_local=outbound.link_local)
    tls = _tls(outbound.ca_file) if secure else None
    if outbound.proxy is None:
        return await _open(host, port, tls, outbound)
    proxy = parse_proxy(outbound.proxy)
    proxy_tls = _tls(None) if proxy.is_tls else None
    reader, writer = await _open(proxy.host, proxy.port, proxy_tls, outbound)
    try:
        credentials = value_of(outbound.proxy_auth_env, environ)
        writer.write(connect_request(host, port, credentials))
        refusal = tunnel_refusal(await _proxy_answer(reader))
        if refusal is not None:
            raise ConnectionRefusedError(refusal)
        if tls is not None:
            await writer.start_tls(tls, server_hostname=host)
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def _open(
    host: str, port: int, tls: ssl.SSLContext | None, outbound: Outbound
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of the host's allowed addresses that accepts."""
    failed: OSError | None = None
    for address in await _addresses(host, port, outbound):
        try:
            return await asyncio.open_connection(
                address, port, ssl=tls, server_hostname=host if tls else None
            )
        except OSError as error:
            failed = error
    raise failed or OSError(f"{host} has no address that requests are sent to")


async def _addresses(host: str, port: int, outbound: Outbound) -> list[str]:
    if is_address(host):
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return allowed((str(entry[4][0]) for entry in found), link_local=outbound.link_local)


async def _proxy_answer(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await reader.read(READ_BYTES)
        answer += data
        if not data or len(answer) > PROXY_ANSWER_BYTES_MAX:
            raise ConnectionResetError("the proxy gave no whole answer")
    return answer


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
