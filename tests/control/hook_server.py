"""A webhook's other end."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HookServer:
    """Notes each call, and answers what it is told to.

    Attributes:
        calls: The bodies, in the order in which they came.
        deliveries: Their `x-fairlead-delivery`.
        answers: Status and text for the next calls; when there are none left, `otherwise`.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.deliveries: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.otherwise = (200, "")
        handler = type("Handler", (_Handler,), {"hook": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def points(self) -> list[str]:
        """The points at which it was called."""
        return [call["point"] for call in self.calls]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hook: HookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.hook.calls.append(json.loads(body))
        self.hook.deliveries.append(self.headers["x-fairlead-delivery"])
        status, text = self.hook.answers.pop(0) if self.hook.answers else self.hook.otherwise
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
