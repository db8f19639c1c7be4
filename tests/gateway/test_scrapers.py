"""Metrics are for programs on this machine and who has the token; not for who comes by a proxy."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import Rig, route, snapshot

from fairlead.gateway.front.scrapers import Access, MetricsAccess, access_of, is_local
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
HERE = [(b"Host", b"127.0.0.1:7600")]
TOKEN = "a-token-of-enough-length"
BEARER = f"Bearer {TOKEN}".encode()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:7600", "localhost:7600", "[::1]:7600", "LOCALHOST"])
def test_a_program_on_this_machine_reads_them(peer: str, host: str) -> None:
    assert is_local(peer, [(b"Host", host.encode())])


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.0.7", HERE),
        ("::ffff:10.0.0.7", HERE),
        ("", HERE),
        ("nonsense", HERE),
        ("127.0.0.1", [(b"host", b"metrics.example")]),
        ("127.0.0.1", [*HERE, (b"X-Forwarded-For", b"10.0.0.7")]),
        ("127.0.0.1", [*HERE, (b"Forwarded", b"for=10.0.0.7")]),
        ("127.0.0.1", [*HERE, (b"x-real-ip", b"10.0.0.7")]),
        ("127.0.0.1", [*HERE, (b"Via", b"1.1 proxy")]),
        ("127.0.0.1", [*HERE, (b"Origin", b"https://evil.example")]),
    ],
)
def test_others_need_the_token(peer: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert not is_local(peer, headers)
    for access, is_let in (("local", False), ("token", False), ("open", True)):
        rule = access_of(access, TOKEN)
        assert (rule.refusal(peer, None, headers) is None) is is_let
        assert rule.refusal(peer, BEARER, headers) is None
        assert (rule.refusal(peer, BEARER + b"x", headers) is None) is is_let


@pytest.mark.parametrize(("access", "is_let"), [("local", True), ("token", False), ("open", True)])
def test_what_is_declared_holds_on_this_machine_too(access: Access, is_let: bool) -> None:
    rule = access_of(access, TOKEN)
    assert (rule.refusal("127.0.0.1", None, HERE) is None) is is_let
    assert rule.refusal("127.0.0.1", BEARER, HERE) is None


def test_no_token_is_no_token() -> None:
    """Not the empty one either."""
    for given in (b"Bearer ", b"Bearer", b"", None):
        assert MetricsAccess("token").refusal("127.0.0.1", given, HERE) is not None
        assert access_of("token", "").refusal("127.0.0.1", given, HERE) is not None


async def test_a_worker_shows_them_by_that_rule(serve: Serve) -> None:
    rig = await serve(snapshot(route("a" * 64)))
    worker = rig.worker
    assert worker is not None
    async with rig.client() as client:
        key = client.headers.pop("authorization")
        assert (await client.get("/metrics")).status_code == 200
        proxied = await client.get("/metrics", headers={"x-forwarded-for": "10.0.0.7"})
        assert proxied.status_code == 401
        assert proxied.json()["error"]["code"] == "metrics_token"
        assert "run/metrics.token" in proxied.json()["error"]["message"]
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        worker._settings = msgspec.structs.replace(
            worker._settings, metrics=MetricsAccess("token", digest)
        )
        # A key of a client opens what clients may do, and not this.
        for given, status in ((BEARER.decode(), 200), (key, 401), ("", 401)):
            answer = await client.get("/metrics", headers={"authorization": given})
            assert answer.status_code == status
        assert (await client.get("/healthz")).status_code == 200
        page = (await client.get("/metrics", headers={"authorization": BEARER.decode()})).text
        assert 'fairlead_gateway_rejected_total{reason="metrics_token"} 3' in page
