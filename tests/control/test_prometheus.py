"""Asking a real Prometheus, and servers that are none."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.control.outside.counters import coverage, increase
from fairlead.control.outside.prometheus import NoAnswer, Reader, alternatives, rendered
from fairlead.rollout.prometheus import Guard, Prometheus
from support.prometheus import MISSING, PROGRAM, Exporter, RealPrometheus
from support.tls import Authority

GUARD = Guard("g", "1", at_most=2.0)
SCRAPED_S = 60.0


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    made.values = {
        'errors_total{release="a",replica="r1"}': 3.0,
        'errors_total{release="a",replica="r2"}': 4.0,
        'load{replica="r1"}': 0.5,
    }
    yield made
    made.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> Iterator[RealPrometheus]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    made = RealPrometheus(tmp_path_factory.mktemp("prometheus") / "p", exporter)
    yield made
    made.stop()


async def until(ask: Callable[[], Awaitable[Any]], done: Callable[[Any], Any]) -> Any:
    """The first answer that will do."""
    end = time.monotonic() + SCRAPED_S
    while time.monotonic() < end:
        found = await ask()
        if done(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {SCRAPED_S:g} s: {found}")


async def test_an_instant_query_gives_a_value_for_each_series(real: RealPrometheus) -> None:
    reader = Reader(Prometheus(real.url, guards=(GUARD,)))
    now = 0.0

    async def values() -> list[float]:
        nonlocal now
        now = time.time()
        return await reader.instant("errors_total", now)

    assert sorted(await until(values, lambda found: len(found) == 2)) == [3.0, 4.0]
    assert await reader.instant("sum(errors_total)", now) == [7.0]
    assert await reader.instant("scalar(sum(load))", now) == [0.5]
    assert await reader.instant("nothing_of_that_name", now) == []
    (nothing,) = await reader.instant("sum(load * 0) / sum(load * 0)", now)
    assert nothing != nothing
    assert await reader.instant("sum(load) / sum(load * 0)", now) == [float("inf")]


async def test_what_is_no_query_is_refused_in_prometheus_words(real: RealPrometheus) -> None:
    reader = Reader(Prometheus(real.url, guards=(GUARD,)))
    with pytest.raises(NoAnswer, match=r"answered 400: .*parse error"):
        await reader.instant("sum(", time.time())
    with pytest.raises(NoAnswer, match="ranges of samples"):
        await reader.instant("load[1m]", time.time())
    with pytest.raises(NoAnswer, match="answered 400"):
        await reader.samples("sum(errors_total)", time.time(), 60)


async def test_a_counter_that_begins_anew_is_counted_as_prometheus_does(
    real: RealPrometheus, exporter: Exporter
) -> None:
    reader = Reader(Prometheus(real.url, guards=(GUARD,)))
    name = 'errors_total{release="a",replica="r1"}'
    begun = exporter.values[name]

    async def seen(value: float) -> float:
        """When the newest sample had this value."""
        found = await until(
            lambda: reader.samples('errors_total{replica="r1"}', time.time(), 300),
            lambda f: f and f[0].samples[-1][1] == value,
        )
        return found[0].samples[-1][0]

    after = await seen(begun)
    exporter.add(name, 5)
    await seen(begun + 5)
    exporter.values[name] = 2.0
    await seen(2.0)
    exporter.add(name, 4)
    at = await seen(6.0)
    series = await reader.samples('errors_total{replica="r1"}', at, 300)
    assert increase(series, after, at, from_zero=False) == 5 + 2 + 4
    until_at = coverage(series, at).until
    assert until_at == pytest.approx(at, abs=0.01)
    (by_prometheus,) = await reader.instant('resets(errors_total{replica="r1"}[5m])', at)
    assert by_prometheus == 1.0


class Answering:
    """A server that answers what it is told to, and notes what it was sent."""

    def __init__(self, status: int, body: bytes, context: ssl.SSLContext | None = None) -> None:
        answering = self
        self.heads: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answering.heads.append({k.lower(): v for k, v in self.headers.items()})
                self.send_response(status)
                self.send_header("location", "http://127.0.0.1:9/")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


SUCCESS = b'{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}'


@pytest.fixture
async def answering() -> AsyncIterator[Callable[..., Answering]]:
    started: list[Answering] = []

    def start(*arguments: Any) -> Answering:
        started.append(Answering(*arguments))
        return started[-1]

    yield start
    for made in started:
        await asyncio.to_thread(made.close)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (302, b"", "answered 302, and not as Prometheus does"),
        (200, b"<html>hello</html>", "not as Prometheus does"),
        (503, b'{"status":"error","error":"busy: s3cret"}', r"answered 503: busy: \[token\]"),
        (200, b'{"status":"success"}', "answered 200"),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":{"a":1}}}', "numbers"),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}', "numbers"),
    ],
)
async def test_an_answer_that_is_none_is_said_in_words_without_the_token(
    answering: Callable[..., Answering], tmp_path: Path, status: int, body: bytes, words: str
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    server = answering(status, body)
    asked = Prometheus(
        f"http://127.0.0.1:{server.port}", token_file=str(tmp_path / "token"), guards=(GUARD,)
    )
    with pytest.raises(NoAnswer, match=words) as raised:
        await Reader(asked).instant("1", 1.0)
    assert "s3cret" not in str(raised.value)
    assert server.heads[0]["authorization"] == "Bearer s3cret"


async def test_the_token_comes_from_the_environment(
    answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = answering(200, SUCCESS)
    asked = Prometheus(
        f"http://127.0.0.1:{server.port}", token_env="PROMETHEUS_TOKEN", guards=(GUARD,)
    )
    monkeypatch.delenv("PROMETHEUS_TOKEN", raising=False)
    with pytest.raises(NoAnswer, match="no token in the environment variable PROMETHEUS_TOKEN"):
        await Reader(asked).instant("1", 1.0)
    assert server.heads == []
    monkeypatch.setenv("PROMETHEUS_TOKEN", "abc")
    assert await Reader(asked).instant("1", 1.0) == [7.0]
    assert server.heads[0]["authorization"] == "Bearer abc"


async def test_no_secret_of_the_installation_is_its_token(
    answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = answering(200, SUCCESS)
    monkeypatch.setenv("ALERT_SLACK_URL", "abc")
    asked = Prometheus(
        f"http://127.0.0.1:{server.port}", token_env="ALERT_SLACK_URL", guards=(GUARD,)
    )
    with pytest.raises(NoAnswer, match="ALERT_SLACK_URL must not be one of"):
        await Reader(asked).instant("1", 1.0)
    assert server.heads == []


async def test_only_the_declared_authority_is_trusted(
    answering: Callable[..., Answering], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server = answering(200, SUCCESS, authority.server("localhost"))
    url = f"https://localhost:{server.port}"
    with pytest.raises(NoAnswer, match=r"not reached: .*certificate"):
        await Reader(Prometheus(url, guards=(GUARD,))).instant("1", 1.0)
    asked = Prometheus(url, ca_file=str(authority.file), guards=(GUARD,))
    assert await Reader(asked).instant("1", 1.0) == [7.0]


async def test_nobody_answers() -> None:
    with pytest.raises(NoAnswer, match="not reached"):
        await Reader(Prometheus("http://127.0.0.1:9", guards=(GUARD,))).instant("1", 1.0)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "0x7f000001"])
async def test_addresses_of_secrets_are_not_asked(host: str) -> None:
    with pytest.raises(NoAnswer, match=r"not reached: .*(no host|not an address)"):
        await Reader(Prometheus(f"http://{host}", guards=(GUARD,))).instant("1", 1.0)


def test_placeholders_are_filled_in_and_cannot_break_out() -> None:
    query = 'x{release="{{release}}",replica=~"{{ replicas }}"}'
    values = {"release": "sha256:ab", "replicas": alternatives(["r1", "r.2"])}
    assert rendered(query, values) == 'x{release="sha256:ab",replica=~"r[.]2|r1"}'
    assert alternatives([]) == "no-replica"
    with pytest.raises(NoAnswer, match="release"):
        rendered(query, {"release": 'a"} or vector(1)', "replicas": "r"})
