"""TLS and mTLS on the front, with certificates made here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trustme
from attack import BODY, HOST, descriptors, given_back, length, post, request, statuses
from gateway_rig import A, Control, Engine, Rig, answers, completion, route, running, snapshot

from fairlead.domain.errors import InvalidInput
from fairlead.gateway import limits, worker
from fairlead.gateway.front.tls import server_context
from fairlead.gateway.settings import TlsFiles
from support.installation import running as installation

StartEngine = Callable[..., Awaitable[Engine]]
T = TypeVar("T")


class Papers:
    """An authority, a certificate of it for the gateway, and one for a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.cert, self.key = folder / "gateway.pem", folder / "gateway.key"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self.cert, append=True)
        issued.private_key_pem.write_to_path(self.key)
        self.client_authority = trustme.CA()
        self.client_ca = folder / "clients.pem"
        self.client_authority.cert_pem.write_to_path(self.client_ca)

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(cert=str(self.cert), key=str(self.key))

    @property
    def mutual(self) -> TlsFiles:
        return TlsFiles(cert=str(self.cert), key=str(self.key), client_ca=str(self.client_ca))

    def client(self, of: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if of is not None:
            of.issue_cert("client@example.org").configure_cert(context)
        return context


class HalfShaken:
    """A client that stops in the middle of its handshake, and goes on when it is told to."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        self._reader, self._writer = reader, writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def greet(self) -> None:
        """Say hello, and wait for the server's own: it has accepted the connection."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._writer.write(self._out.read())
        self._in.write(await self._reader.read(65536))

    async def post(self, wire: bytes) -> bytes:
        """Finish the handshake, send this, and return all that is answered."""
        await self._until(self._tls.do_handshake)
        self._tls.write(wire)
        answer = b""
        with contextlib.suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while data := await self._until(lambda: self._tls.read(65536)):
                answer += data
        return answer

    def close(self) -> None:
        self._writer.close()

    async def _until(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._writer.write(self._out.read())
                data = await self._reader.read(65536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                self._writer.write(self._out.read())


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


async def ask(rig: Rig, context: ssl.SSLContext, wire: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname="localhost"
    )
    writer.write(wire or request(HOST, length(BODY), b"connection: close", body=BODY))
    got = await reader.read()
    writer.close()
    return got


async def test_requests_are_served_over_tls_and_bad_ones_refused(
    engine: StartEngine, tmp_path: Path, control: Control, papers: Papers
) -> None:
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.files)
    async with running(rig, snapshot(route(A, one))):
        assert completion("ok") in await ask(rig, papers.client())
        assert statuses(await ask(rig, papers.client(), post() * 5)) == [200]
        bad = request(HOST, b"content-length: 3", b"transfer-encoding: chunked")
        assert statuses(await ask(rig, papers.client(), bad)) == [400]
    rig.socket.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_before_1_2_are_not_spoken(papers: Papers, version: ssl.TLSVersion) -> None:
    context = server_context(papers.files.cert, papers.files.key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert version < context.minimum_version
    assert context.verify_mode is ssl.CERT_NONE


def hello(version: bytes) -> bytes:
    """A client's first message that speaks this version at the most, as OpenSSL may refuse to."""

    def sized(data: bytes, size: int = 2) -> bytes:
        return len(data).to_bytes(size, "big") + data

    groups, formats = sized(b"\x00\x1d\x00\x17"), sized(b"\x00", 1)
    signatures = sized(b"\x04\x03\x08\x04\x04\x01\x02\x03\x02\x01")
    extensions = b"".join(
        kind + sized(data)
        for kind, data in (
            (b"\x00\x0a", groups), (b"\x00\x0b", formats), (b"\x00\x0d", signatures)
        )
    )  # fmt: skip
    ciphers = sized(b"\xc0\x2b\xc0\x2f\xc0\x0a\xc0\x14\xc0\x09\xc0\x13\x00\x35\x00\x2f")
    body = version + bytes(range(32)) + b"\x00" + ciphers + b"\x01\x00" + sized(extensions)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(body, 3))


ALERT, HANDSHAKE, SERVER_HELLO = 0x15, 0x16, 0x02
PROTOCOL_VERSION = 70


@pytest.mark.parametrize(
    "version", [b"\x03\x00", b"\x03\x01", b"\x03\x02"], ids=["SSL 3.0", "TLS 1.0", "TLS 1.1"]
)
async def test_a_client_that_speaks_no_newer_version_than_1_1_is_refused(
    engine: StartEngine, tmp_path: Path, control: Control, papers: Papers, version: bytes
) -> None:
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.files)
    async with running(rig, snapshot(route(A, one))):
        newest = await rig.raw(hello(b"\x03\x03"), wait_s=1.0)
        assert (newest[0], newest[5], newest[9:11]) == (HANDSHAKE, SERVER_HELLO, b"\x03\x03")
        got = await rig.raw(hello(version), wait_s=10.0)
        assert not got.endswith(b"<open>")
        # Whether the alert gets out before the connection ends is the event loop's affair.
        told = got.removesuffix(b"<reset>")
        assert told == b"" or (told[0], told[6:7]) == (ALERT, bytes((PROTOCOL_VERSION,)))
    rig.socket.close()


async def test_versions_1_2_and_1_3_are_spoken(
    engine: StartEngine, tmp_path: Path, control: Control, papers: Papers
) -> None:
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.files)
    async with running(rig, snapshot(route(A, one))):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = papers.client()
            client.minimum_version = client.maximum_version = version
            assert completion("ok") in await ask(rig, client)
    rig.socket.close()


async def test_with_a_client_ca_only_its_clients_get_in(
    engine: StartEngine, tmp_path: Path, control: Control, papers: Papers
) -> None:
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.mutual)
    async with running(rig, snapshot(route(A, one))):
        assert completion("ok") in await ask(rig, papers.client(papers.client_authority))
        for stranger in (papers.client(), papers.client(trustme.CA())):
            # In TLS 1.3 the client hears of it only when it reads.
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert await ask(rig, stranger) == b""
        assert len(one.asked) == 1
    rig.socket.close()


async def test_plain_text_silence_and_half_a_handshake_end_and_leak_nothing(
    engine: StartEngine,
    tmp_path: Path,
    control: Control,
    papers: Papers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_S", 1.0)
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.files)
    async with running(rig, snapshot(route(A, one))):
        before = descriptors()
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        junk = [post(), b"", hello, b"\x16\x03\x01" + b"\xff" * 5000, b"\0" * 100_000] * 20
        got = await asyncio.gather(*(rig.raw(data, wait_s=20) for data in junk))
        assert not any(b"HTTP" in answer or answer.endswith(b"<open>") for answer in got)
        assert completion("ok") in await ask(rig, papers.client())
        await given_back(rig, before + 4)
    rig.socket.close()


async def test_a_handshake_under_way_as_the_worker_retires_is_finished_and_served(
    engine: StartEngine,
    tmp_path: Path,
    control: Control,
    papers: Papers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without TLS it would wait for the first, with TLS for the second; only the handshake ends.
    monkeypatch.setattr(worker, "_ACCEPTED_S", 0.0)
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_S", 600.0)
    one = await engine(answers("ok"))
    rig = Rig(tmp_path, control.engine.url, tls=papers.files)
    async with running(rig, snapshot(route(A, one))):
        assert rig.worker is not None
        client = HalfShaken(*await asyncio.open_connection("127.0.0.1", rig.port), papers.client())
        await client.greet()
        assert rig.worker.connection_count == 0
        retiring = asyncio.create_task(rig.worker.retire())
        try:
            for _ in range(100):
                await asyncio.sleep(0)
            assert not retiring.done()
            answer = await client.post(request(HOST, length(BODY), body=BODY))
            assert completion("ok") in answer
            assert b"connection: close" in answer.lower()
        finally:
            client.close()
            retiring.cancel()
            await asyncio.gather(retiring, return_exceptions=True)
    rig.socket.close()


def test_files_that_cannot_be_used_are_named(papers: Papers, tmp_path: Path) -> None:
    cert, key = papers.files.cert, papers.files.key
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(other)
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True
    )
    empty = tmp_path / "empty.pem"
    empty.touch()
    for given, words in (
        ((str(tmp_path / "none"), key), "none: cannot be read: No such file"),
        ((cert, str(tmp_path)), "cannot be read: Is a directory"),
        ((cert, str(other)), "other.key: this is not the key of the certificate in"),
        ((key, cert), "not a certificate and its key in PEM form"),
        ((str(empty), key), "not a certificate and its key in PEM form"),
        ((cert, str(locked)), "locked.key: the private key is encrypted"),
        ((cert, key, str(empty)), "empty.pem: no certificates in PEM form"),
        ((cert, key, key), "gateway.key: no certificates in PEM form"),
    ):
        with pytest.raises(InvalidInput) as raised:
            server_context(*given)
        assert words in raised.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tls-cert", "CERT"), "give --tls-cert and --tls-key"),
        (("--tls-client-ca", "CERT"), "give --tls-cert and --tls-key"),
        (("--tls-cert", "CERT", "--tls-key", "none"), "cannot be read"),
        (("--tls-cert", "CERT", "--tls-key", "KEY", "--tls-client-ca", "KEY"), "no certificates"),
    ],
)
def test_up_says_what_is_wrong_with_them_before_anything_starts(
    papers: Papers, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    names = {"CERT": papers.files.cert, "KEY": papers.files.key}
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "up", "--state", tmp_path / "s", "--port", "0",
         "--control-port", "0", *(names.get(word, word) for word in options)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "s" / "run" / "up.json").exists()


@pytest.mark.live
def test_an_installation_serves_tls_says_so_and_takes_feedback(
    papers: Papers, tmp_path: Path
) -> None:
    options = ("--tls-cert", papers.files.cert, "--tls-key", papers.files.key)
    with installation(tmp_path / "s", 1, options) as running_one:
        url = running_one.status().gateway_url
        assert url.startswith("https://127.0.0.1:")
        key = running_one.make_key()
        done = subprocess.run(
            [sys.executable, "-m", "fairlead", "feedback", "none", "true", "--state",
             running_one.paths.root],
            env={**os.environ, "FAIRLEAD_API_KEY": key},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 6, done.stderr  # It was asked, and knows no such request.
        context = papers.client()
        port = int(url.rpartition(":")[2])

        async def health() -> bytes:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            got = await reader.read()
            writer.close()
            return got

        body = asyncio.run(health()).partition(b"\r\n\r\n")[2]
        assert json.loads(body)["status"] == "ok"
