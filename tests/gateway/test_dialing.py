"""Providers over TLS: certificates, own authorities, proxies, and nowhere but the declared host."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    head,
    snapshot,
    streams,
)

from fairlead.domain.outbound import Outbound
from fairlead.gateway.replicas.addressing import parse_base_url
from fairlead.gateway.replicas.dialing import Dialer
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.wire.snapshot import Endpoint, Limits, ReleaseRoute, Snapshot
from support.corpora import each_url, needs_corpora, urls
from support.tls import Authority, connect_proxy

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
PATH = "/v1/chat/completions"
QUICK = Limits(queue_timeout_s=0.5, request_timeout_s=20.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def provider_at(url: str, **outbound: Any) -> Snapshot:
    endpoint = Endpoint(replica="r", base_url=url, outbound=Outbound(**outbound))
    return snapshot(ReleaseRoute(digest=A, name="a", endpoints=(endpoint,)), limits=QUICK)


async def tls_engine(authority: Authority, *names: str) -> Engine:
    made = Engine(tls=authority.server(*names))
    made.behave = answers("over tls")
    return await made.start()


async def ask(rig: Rig, body: dict[str, Any] = CHAT) -> httpx.Response:
    async with rig.client() as client:
        return await client.post(PATH, json=body)


async def test_a_provider_with_an_own_authority_is_reached_and_its_connection_used_again(
    serve: Serve, authority: Authority
) -> None:
    engine = await tls_engine(authority, "localhost")
    rig = await serve(
        provider_at(f"https://localhost:{engine.port}/v1", ca_file=str(authority.file))
    )
    try:
        async with rig.client() as client:
            for _ in range(5):
                assert (await client.post(PATH, json=CHAT)).content == completion("over tls")
        assert engine.connections == 1
        engine.behave = streams("a", "b")
        assert b'"b"' in (await ask(rig, {**CHAT, "stream": True})).content
        assert engine.asked[0].headers["host"] == f"localhost:{engine.port}"
    finally:
        await engine.stop()


@pytest.mark.parametrize("flaw", ["unknown authority", "another name", "another authority"])
async def test_a_certificate_that_does_not_hold_ends_in_an_error_and_sends_nothing(
    serve: Serve, authority: Authority, tmp_path: Path, flaw: str
) -> None:
    engine = await tls_engine(authority, "other.example" if flaw == "another name" else "localhost")
    other = Authority(tmp_path, "other.pem")
    files = {"unknown authority": None, "another name": authority.file}
    file = files.get(flaw, other.file)
    rig = await serve(
        provider_at(f"https://localhost:{engine.port}/v1", ca_file=str(file) if file else None)
    )
    try:
        assert error_of(await ask(rig))[0] in (502, 503)
        assert engine.asked == []
    finally:
        await engine.stop()


async def test_an_authority_that_cannot_be_read_leaves_the_replica_out(
    serve: Serve, tmp_path: Path
) -> None:
    rig = await serve(provider_at("https://localhost:1/v1", ca_file=str(tmp_path / "none.pem")))
    assert error_of(await ask(rig)) == (503, "queue_timeout")


@pytest.mark.parametrize("proxy_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_a_declared_proxy_is_gone_through_with_its_credentials(
    serve: Serve,
    authority: Authority,
    rig: Rig,
    proxy_tls: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = await tls_engine(authority, "provider.example")
    # An https proxy is checked by the system's authorities: here that is ours.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    rig.environ["PROXY_AUTH"] = "me:secret"
    async with connect_proxy(authority.server("localhost") if proxy_tls else None) as proxy:
        proxy.leads_to = ("127.0.0.1", engine.port)
        proxy.credentials = "me:secret"
        url = f"https://localhost:{proxy.port}" if proxy_tls else proxy.url
        rig = await serve(
            provider_at(
                "https://provider.example/v1",
                ca_file=str(authority.file),
                proxy=url,
                proxy_auth_env="PROXY_AUTH",
            )
        )
        async with rig.client() as client:
            for _ in range(3):
                assert (await client.post(PATH, json=CHAT)).content == completion("over tls")
        assert proxy.asked == ["CONNECT provider.example:443 HTTP/1.1"]
        await engine.stop()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 Required\r\n\r\n", b"HTTP/1.1 502 Bad\r\n\r\n", b"SSH-2\r\n\r\n",
     b"x" * 40_000],
    ids=["407", "502", "no HTTP", "too long"],
)  # fmt: skip
async def test_a_proxy_that_refuses_is_a_failure_to_connect(
    serve: Serve, authority: Authority, answer: bytes
) -> None:
    async with connect_proxy() as proxy:
        proxy.answer = answer
        rig = await serve(
            provider_at("https://p.example/v1", ca_file=str(authority.file), proxy=proxy.url)
        )
        assert error_of(await ask(rig))[0] in (502, 503)
        assert proxy.asked


async def test_a_proxy_is_never_taken_from_the_environment(
    serve: Serve, authority: Authority, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await tls_engine(authority, "localhost")
    async with connect_proxy() as proxy:
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            rig.environ[name] = proxy.url
        rig = await serve(
            provider_at(f"https://localhost:{engine.port}/v1", ca_file=str(authority.file))
        )
        async with rig.client(trust_env=False) as client:
            assert (await client.post(PATH, json=CHAT)).content == completion("over tls")
        assert proxy.asked == []
    await engine.stop()


async def test_a_name_that_leads_to_metadata_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is resolved once, and what it led to is what is looked at and connected to."""
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    class Loop:
        async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
            asked.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in ("169.254.169.254", "0.0.0.0")
            ]

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"no connection is to be made: {name}")

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    try:
        dialer = Dialer(parse_base_url("http://rebound.example:80"))
        with pytest.raises(OSError, match="has no address that requests are sent to"):
            await dialer.connect(lambda: UpstreamConnection(print, print))
    finally:
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    assert asked == ["rebound.example"]


# The corpus of URLs that a server must not be led by


@needs_corpora
@each_url
def test_a_base_url_is_refused_or_leads_to_the_host_that_it_shows(url: str) -> None:
    try:
        address = parse_base_url(url)
    except ValueError:
        return
    shown = url.partition("//")[2].partition("/")[0].lower()
    assert shown == address.host_header.lower()
    assert url.lower().startswith(("http://", "https://"))
    # What it shows is one host to everyone: no userinfo, no number in disguise, nothing escaped.
    assert not set(shown) & set("@\\%#? \t\r\n")
    assert Dialer(address).address.host in shown


@needs_corpora
async def test_redirects_to_any_of_them_are_not_followed(serve: Serve) -> None:
    engine = await Engine().start()
    shown = [url for url in urls() if url.isascii() and url.isprintable()]

    async def redirect(asked: Asked, writer: asyncio.StreamWriter) -> None:
        url = shown[len(engine.asked) % len(shown)]
        writer.write(head(307, content_length=0, location=url))
        await writer.drain()

    engine.behave = redirect
    rig = await serve(provider_at(engine.url))
    async with rig.client() as client:
        for _ in shown:
            answer = await client.post(PATH, json=CHAT)
            assert error_of(answer) == (502, "upstream_error")
            assert "location" not in answer.headers
    assert len(engine.asked) == len(shown)
    await engine.stop()


@needs_corpora
async def test_a_client_cannot_name_any_of_them_as_its_model(serve: Serve) -> None:
    rig = await serve(provider_at("http://127.0.0.1:9"))
    async with rig.client() as client:
        for url in urls():
            answer = await client.post(PATH, json={**CHAT, "model": url})
            assert error_of(answer) == (404, "model_not_found")


def test_an_endpoint_that_is_not_to_be_reached_is_reached_when_it_is_meant() -> None:
    with pytest.raises(ValueError, match="not an address that requests are sent to"):
        parse_base_url("http://169.254.10.10:8000/v1")
    assert parse_base_url("http://169.254.10.10:8000/v1", link_local=True).port == 8000


def test_snapshots_of_before_have_endpoints_without_outbound() -> None:
    old = msgspec.json.decode(b'{"replica": "r", "base_url": "http://h"}', type=Endpoint)
    assert old.outbound == Outbound()
