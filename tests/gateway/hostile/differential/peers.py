"""nginx, HAProxy and Apache as reverse proxies, one loopback port for each lane.

Each marks what it passes on with its own `x-session-id`, which takes the place of the client's. A
request without the mark was not one for the proxy: it came out of the middle of another.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

MARK = "mark-5d0c3a91"
_STARTS_S = 20.0
_MODULES = Path("/usr/lib/apache2/modules")


class Ports(msgspec.Struct, frozen=True):
    """One lane: where the proxy listens, and where it passes requests on to."""

    front: int
    back: int


class Peer(msgspec.Struct, frozen=True):
    """One implementation.

    Attributes:
        program: Its executable, found on the path or in a folder of system programs.
        package: Where a person gets it (Debian).
        configure: Writes its configuration into a folder; returns the command's arguments.
    """

    name: str
    program: str
    package: str
    configure: Callable[[Path, Sequence[Ports]], list[str]]

    @property
    def executable(self) -> str | None:
        """Its path; None where it is not installed."""
        return shutil.which(
            self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        )

    @property
    def version(self) -> str:
        """As it says itself."""
        done = subprocess.run([self.executable or "", "-v"], capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().splitlines()[0]


def _nginx(folder: Path, lanes: Sequence[Ports]) -> list[str]:
    servers = "".join(
        f"""
        upstream lane{lane.back} {{ server 127.0.0.1:{lane.back} max_fails=0; keepalive 4; }}
        server {{
            listen 127.0.0.1:{lane.front} backlog=512;
            location / {{
                proxy_pass http://lane{lane.back};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header x-session-id {MARK};
                proxy_next_upstream off;
                proxy_ignore_client_abort on;
            }}
        }}"""
        for lane in lanes
    )
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; error_log stderr crit; pid {folder}/nginx.pid;"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 1000000000; {folders} {servers} }}\n"
    )
    return ["-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def _haproxy(folder: Path, lanes: Sequence[Ports]) -> list[str]:
    proxies = "".join(
        f"""
listen lane{lane.front}
    bind 127.0.0.1:{lane.front}
    http-request set-header x-session-id {MARK}
    server back 127.0.0.1:{lane.back}
"""
        for lane in lanes
    )
    (folder / "haproxy.cfg").write_text(
        "global\n    maxconn 2000\n    nbthread 1\n"
        "defaults\n    mode http\n    retries 0\n    http-reuse safe\n    timeout connect 5s\n"
        f"    timeout client 30s\n    timeout server 30s\n    timeout http-request 30s\n{proxies}"
    )
    return ["-db", "-f", str(folder / "haproxy.cfg")]


def _apache(folder: Path, lanes: Sequence[Ports]) -> list[str]:
    modules = "".join(
        f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")
    )
    hosts = "".join(
        f"""
Listen 127.0.0.1:{lane.front}
<VirtualHost 127.0.0.1:{lane.front}>
    ProxyPass / http://127.0.0.1:{lane.back}/ nocanon retry=0
</VirtualHost>
"""
        for lane in lanes
    )
    (folder / "httpd.conf").write_text(
        f"{modules}ServerName localhost\nServerRoot {folder}\nDocumentRoot {folder}\n"
        f"PidFile {folder}/httpd.pid\nDefaultRuntimeDir {folder}\nErrorLog {folder}/error.log\n"
        "LogLevel crit\nUser www-data\nGroup www-data\nMutex pthread\n"
        "AllowEncodedSlashes NoDecode\n"
        "MaxKeepAliveRequests 0\nStartServers 1\nServerLimit 1\nThreadsPerChild 64\n"
        "MaxRequestWorkers 64\nMaxConnectionsPerChild 0\nTimeout 30\n"
        f"RequestHeader set x-session-id {MARK}\n{hosts}"
    )
    return ["-D", "FOREGROUND", "-f", str(folder / "httpd.conf")]


PEERS = (
    Peer("nginx", "nginx", "nginx", _nginx),
    Peer("HAProxy", "haproxy", "haproxy", _haproxy),
    Peer("Apache", "apache2", "apache2", _apache),
)


@contextlib.contextmanager
def running(peer: Peer, folder: Path, lanes: Sequence[Ports]) -> Iterator[None]:
    """The proxy with these lanes, until the end of the block."""
    assert peer.executable is not None
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [peer.executable, *peer.configure(folder, lanes)], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _STARTS_S
        while not _listens(lanes[-1].front):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(_STARTS_S)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nobody listens now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
