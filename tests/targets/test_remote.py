"""Remote endpoints, the probe, and what holds for both kinds of target alike."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.domain.outbound import Outbound
from fairlead.domain.replica import Launch, ReplicaState, ReplicaStatus, Wanted
from fairlead.targets import EveryTarget, RemoteTarget, Target
from fairlead.targets.http import HttpFailed, request
from fairlead.targets.lifecycle import Probe
from fairlead.targets.probe import probe
from support.tls import Authority, connect_proxy

S = ReplicaState
Wish = Callable[..., Wanted]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Endpoint:
    """A server that answers what it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: bytes | None = OK
        self.asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.answer is None:
                await asyncio.sleep(60)
            else:
                writer.write(self.answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    it = Endpoint()
    server = await asyncio.start_server(it.handle, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()


@pytest.fixture
async def provider() -> AsyncIterator[Endpoint]:
    async with endpoint() as it:
        yield it


async def until(
    target: Target,
    wanted: list[Wanted],
    check: Callable[[list[ReplicaStatus]], bool],
    may_stop: Callable[[str], bool] = lambda _: True,
) -> list[ReplicaStatus]:
    """Reconcile as control does until the check holds."""
    end = time.monotonic() + 15.0
    while time.monotonic() < end:
        await target.reconcile(wanted, may_stop)
        if check(target.replicas()):
            return target.replicas()
        await asyncio.sleep(0.02)
    raise AssertionError(target.replicas())


def remote(it: Endpoint, **more: str) -> Launch:
    return Launch(base_url=it.url + "/v1", probe_path="/models", slots=32, **more)


async def test_an_endpoint_that_answers_is_ready_and_is_one_replica_however_many_are_wanted(
    provider: Endpoint, wish: Wish
) -> None:
    target = RemoteTarget(environ={})
    await target.adopt()
    (replica,) = await until(
        target, [wish(remote(provider), 3)], lambda rs: [r.state for r in rs] == [S.READY]
    )
    assert (replica.base_url, replica.pid, replica.slots) == (provider.url + "/v1", 0, 32)
    assert provider.asked[0].startswith("GET /v1/models HTTP/1.1\r\n")
    await target.close(stop=True)
    assert target.replicas() == []


async def test_its_id_is_the_same_after_a_restart_of_control(
    provider: Endpoint, wish: Wish
) -> None:
    ids = set()
    for _ in range(2):
        target = RemoteTarget(environ={})
        await target.adopt()
        await target.reconcile([wish(remote(provider))], lambda _: True)
        ids.add(target.replicas()[0].id)
        await target.close(stop=False)
    assert len(ids) == 1


async def test_the_key_comes_from_the_environment_or_a_file_and_is_shown_nowhere(
    provider: Endpoint, wish: Wish, tmp_path: Path
) -> None:
    keyed = remote(provider, api_key_env="PROVIDER_KEY")
    assert await probe(keyed, provider.url, {"PROVIDER_KEY": " secret-1\n"}) == (Probe.GOOD, "")
    assert "Authorization: Bearer secret-1\r\n" in provider.asked[-1]
    file = tmp_path / "key"
    file.write_text("secret-2\n")
    filed = remote(provider, api_key_file=str(file))
    provider.answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 7\r\n\r\nbad key"
    outcome, detail = await probe(filed, provider.url, {})
    assert "Authorization: Bearer secret-2\r\n" in provider.asked[-1]
    assert (outcome, detail) == (Probe.BAD, "probe: status 401: bad key")


@pytest.mark.parametrize(
    ("where", "environ", "said"),
    [
        ({"api_key_env": "K"}, {}, "environment variable K is not set or empty"),
        ({"api_key_env": "K"}, {"K": "a\r\nHost: b"}, "environment variable K holds no key"),
        ({"api_key_file": "/no/such/file"}, {}, "/no/such/file: No such file"),
        (
            {"api_key_env": "ALERT_K"},
            {"ALERT_K": "k"},
            "variable ALERT_K must not be one of ALERT_",
        ),
        ({"api_key_env": "FAIRLEAD_K"}, {"FAIRLEAD_K": "k"}, "must not be one of FAIRLEAD_"),
    ],
)
async def test_a_missing_or_broken_key_is_told_without_asking_the_provider(
    provider: Endpoint, where: dict[str, str], environ: dict[str, str], said: str
) -> None:
    outcome, detail = await probe(remote(provider, **where), provider.url, environ)
    assert outcome is Probe.HOPELESS
    assert said in detail
    assert provider.asked == []


async def test_without_its_key_it_has_failed_at_once_and_comes_when_the_key_does(
    provider: Endpoint, wish: Wish, tmp_path: Path
) -> None:
    key, now = tmp_path / "key", [1000.0]
    wanted = [wish(remote(provider, api_key_file=str(key)))]
    target = RemoteTarget(environ={}, now=lambda: now[0])
    await target.adopt()
    try:
        (failed,) = await until(target, wanted, lambda rs: rs[0].state is S.FAILED)
        assert "No such file or directory; put the key there" in failed.detail
        assert now == [1000.0]
        now[0] += 2.5
        key.write_text("secret\n")
        (ready,) = await until(target, wanted, lambda rs: rs[0].state is S.READY)
        assert (ready.id, ready.detail) == (failed.id, "")
        key.unlink()
        now[0] += 2.5
        await until(target, wanted, lambda rs: "No such file" in rs[0].detail)
        assert target.replicas()[0].state is S.READY, "a key that is being replaced"
    finally:
        await target.close(stop=True)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "holds no result"),
        (b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"choices":[]}', "holds no result"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok!", "holds no result"),
        (b'HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n{"\xff":1', "holds no result"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" + b"[" * 99_999, "holds no result"),
        (b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n", "status 429"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 7\r\n\r\nloading", "status 503: loading"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP server"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{", "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b" " * 5_000_000, "too long"),
    ],
)
async def test_a_port_that_answers_is_not_enough(
    provider: Endpoint, answer: bytes, said: str
) -> None:
    provider.answer = answer
    launch = Launch(argv=("x",), probe_body={"prompt": "ok"})
    outcome, detail = await probe(launch, provider.url, {})
    assert outcome is Probe.BAD
    assert said in detail


async def test_a_provider_that_asks_for_fewer_requests_works(provider: Endpoint) -> None:
    provider.answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
    outcome, detail = await probe(remote(provider), provider.url, {})
    assert outcome is Probe.BUSY
    assert "429" in detail


@pytest.mark.parametrize(
    "head", [b"transfer-encoding: chunked\r\n\r\n", b"connection: close\r\n\r\n"]
)
async def test_answers_without_a_length_are_read_whole(provider: Endpoint, head: bytes) -> None:
    body = b'{"data": [1]}'
    whole = b"d\r\n" + body + b"\r\n0\r\n\r\n" if b"chunked" in head else body
    provider.answer = b"HTTP/1.1 200 OK\r\n" + head + whole
    answer = await request(provider.url, body=None, headers={}, timeout_s=5)
    assert (answer.status, answer.body) == (200, body)


async def test_waiting_is_bounded(provider: Endpoint) -> None:
    provider.answer = None
    with pytest.raises(HttpFailed, match=r"no answer within 0.1 s") as failed:
        await request(provider.url, body=None, headers={}, timeout_s=0.1)
    assert failed.value.is_late


async def test_a_redirect_is_not_followed_so_that_the_key_goes_nowhere_else(
    provider: Endpoint,
) -> None:
    async with endpoint() as other:
        provider.answer = (
            f"HTTP/1.1 302 Found\r\nlocation: {other.url}/\r\ncontent-length: 0\r\n\r\n"
        ).encode()
        keyed = remote(provider, api_key_env="K")
        outcome, _ = await probe(keyed, provider.url, {"K": "secret"})
        assert outcome is Probe.BAD
        assert other.asked == []


async def test_tls_to_a_server_that_speaks_none_fails_with_a_reason() -> None:
    def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello, who is there?\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(HttpFailed, match=r"not reached: .*SSL"):
        await request(f"https://127.0.0.1:{port}/", body=None, headers={}, timeout_s=5)
    server.close()


async def test_a_provider_is_probed_by_its_own_authority_and_through_its_proxy(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    it = Endpoint()
    tls = authority.server("provider.example", "localhost")
    server = await asyncio.start_server(it.handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    trusting = Outbound(ca_file=str(authority.file))
    straight = Launch(base_url=f"https://localhost:{port}", outbound=trusting)
    assert await probe(straight, f"https://localhost:{port}", {}) == (Probe.GOOD, "")
    distrusting = Launch(base_url=f"https://localhost:{port}")
    outcome, detail = await probe(distrusting, f"https://localhost:{port}", {})
    assert outcome is Probe.BAD
    assert "certificate" in detail.lower()
    async with connect_proxy() as proxy:
        proxy.leads_to, proxy.credentials = ("127.0.0.1", port), "me:secret"
        through = Launch(
            base_url="https://provider.example",
            outbound=Outbound(str(authority.file), proxy.url, "PROXY_AUTH"),
        )
        environ = {"PROXY_AUTH": "me:secret"}
        assert await probe(through, "https://provider.example", environ) == (Probe.GOOD, "")
        outcome, detail = await probe(through, "https://provider.example", {})
        assert (outcome, detail) == (Probe.BAD, "probe: not reached: the proxy answered 407")
        own = Launch(
            base_url="https://provider.example",
            outbound=Outbound(str(authority.file), proxy.url, "FAIRLEAD_AUTH"),
        )
        environ = {"FAIRLEAD_AUTH": "me:secret"}
        outcome, detail = await probe(own, "https://provider.example", environ)
        assert (outcome, detail) == (Probe.BAD, "probe: not reached: the proxy answered 407")
        assert set(proxy.asked) == {"CONNECT provider.example:443 HTTP/1.1"}
    server.close()


async def test_a_metadata_address_is_not_probed() -> None:
    launch = Launch(base_url="http://169.254.169.254")
    outcome, detail = await probe(launch, "http://169.254.169.254", {})
    assert outcome is Probe.BAD
    assert "not an address that requests are sent to" in detail


@pytest.fixture(params=["local", "remote"])
def either_launch(
    request: pytest.FixtureRequest, server_launch: Launch, provider: Endpoint
) -> Launch:
    """The same tests hold for replicas here and elsewhere."""
    return server_launch if request.param == "local" else remote(provider)


async def test_either_kind_goes_from_starting_to_ready_to_surplus_and_back_and_away(
    tmp_path: Path, either_launch: Launch, wish: Wish
) -> None:
    target = EveryTarget(tmp_path, supervisor_pid=os.getpid())
    await target.adopt()
    try:
        wanted = [wish(either_launch)]
        await target.reconcile(wanted, lambda _: True)
        (starting,) = target.replicas()
        assert starting.state is S.STARTING
        (ready,) = await until(target, wanted, lambda rs: rs[0].state is S.READY)
        assert ready.id == starting.id
        (surplus,) = await until(
            target, [], lambda rs: rs[0].state is S.SURPLUS, may_stop=lambda _: False
        )
        assert (surplus.id, surplus.base_url) == (ready.id, ready.base_url)
        (back,) = await until(target, wanted, lambda rs: rs[0].state is S.READY)
        assert back.id == ready.id
        await until(target, [], lambda rs: not rs)
    finally:
        await target.close(stop=True)


async def test_both_kinds_live_side_by_side(
    tmp_path: Path, server_launch: Launch, provider: Endpoint, wish: Wish
) -> None:
    target = EveryTarget(tmp_path, supervisor_pid=os.getpid())
    await target.adopt()
    try:
        wanted = [wish(server_launch), wish(remote(provider), engine="b")]
        replicas = await until(
            target, wanted, lambda rs: [r.state for r in rs] == [S.READY, S.READY]
        )
        assert [bool(r.pid) for r in replicas] == [True, False]
        await until(target, wanted[1:], lambda rs: len(rs) == 1)
    finally:
        await target.close(stop=True)


async def test_credentials_in_an_address_are_sent_to_nobody() -> None:
    """An older build may have kept such a webhook."""
    async with endpoint() as server:
        url = f"http://user:topsecret@127.0.0.1:{server.port}/hook"
        await request(url, body=b"{}", headers={}, timeout_s=5.0)
    (asked,) = server.asked
    assert f"\r\nHost: 127.0.0.1:{server.port}\r\n" in asked
    assert "topsecret" not in asked
