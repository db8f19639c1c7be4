"""A real HTTP server with the parts of the Hugging Face Hub that a download uses."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `files` of `org/repo` at revision `main`; the attributes below make it misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.lfs = {".gguf", ".safetensors"}
        self.token: str | None = None
        self.served: dict[str, bytes] = {}
        """Content that differs from what the listing states."""
        self.break_off_at: list[int] = []
        """For each of the next downloads: the byte of its answer at which it breaks off."""
        self.ranges = True
        self.redirect: str | None = None
        """Base URL to which downloads are redirected."""
        self.status: int | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing_bytes(self) -> bytes:
        return json.dumps(self.listing()).encode()

    def listing(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            stated: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
            if any(name.endswith(suffix) for suffix in self.lfs):
                sha256 = hashlib.sha256(data).hexdigest()
                stated["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
            siblings.append(stated)
        return {"id": "org/repo", "sha": COMMIT, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((path, dict(self.headers)))
        if hub.status is not None:
            self._answer(hub.status, b"")
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, b"")
        elif path == "/api/models/org/repo/revision/main":
            self._answer(200, hub.listing_bytes())
        elif path.startswith("/cdn/"):
            self._file(path.removeprefix("/cdn/"))
        elif path.startswith(f"/org/repo/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/org/repo/resolve/{COMMIT}/")
            if hub.redirect:
                self._answer(302, b"", {"Location": f"{hub.redirect}/cdn/{name}"})
            else:
                self._file(name)
        else:
            self._answer(404, b"")

    def _file(self, name: str) -> None:
        hub = self.server
        data = hub.served.get(name, hub.files.get(name))
        if data is None:
            self._answer(404, b"")
            return
        wanted = self.headers.get("Range")
        status, start = 200, 0
        if wanted and hub.ranges:
            status, start = 206, int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = data[start:]
        cut = hub.break_off_at.pop(0) if hub.break_off_at else len(body)
        self._answer(status, body[:cut], {"Content-Length": str(len(body))})
        if cut < len(body):
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
