"""nginx in both of its parts: the upstream that always says the same, and the bare proxy."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gateway.traffic import COMPLETION

_FRAME = """
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 16384;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    {inside}
}}
"""

_UPSTREAM = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location / {{ return 200 '{completion}'; }}
    }}
"""

_PROXY = """
    upstream replica {{
        server 127.0.0.1:{upstream};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://replica;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering {buffering};
        }}
    }}
"""


def upstream_command(folder: Path, port: int) -> list[str]:
    """One that returns a fixed completion to everything."""
    return _command(folder, _UPSTREAM.format(port=port, completion=COMPLETION))


def proxy_command(folder: Path, port: int, upstream: int, *, streams: bool) -> list[str]:
    """One that passes on to the upstream; streams are passed on as they come."""
    buffering = "off" if streams else "on"
    return _command(folder, _PROXY.format(port=port, upstream=upstream, buffering=buffering))


def _command(folder: Path, inside: str) -> list[str]:
    config = folder / "nginx.conf"
    config.write_text(_FRAME.format(folder=folder, inside=inside), encoding="utf-8")
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(config)]
