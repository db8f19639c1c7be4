"""A replica as an evaluation sees it: a small HTTP server of chat completions."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def echo(text: str) -> str:
    """The right answer to `say 7`, whatever stands before it."""
    return text.rpartition("say ")[2]


class AnsweringReplica:
    """Answers by a function of the last message's text.

    Attributes:
        asked: How often each text was asked.
        bodies: The last request bodies.
        stops_after: Requests that are answered; further ones wait until `resume`.
    """

    def __init__(self, answer: Callable[[str], str] = echo, stops_after: int = 1_000_000) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.raw: bytes | None = None
        self._left = stops_after
        self._lock = threading.Lock()
        self._goes_on = threading.Event()
        handler = type("Handler", (_Handler,), {"replica": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def is_stuck(self) -> bool:
        """Whether it has answered all that it answers for now."""
        return self._left <= 0

    def resume(self) -> None:
        """Answer again."""
        self._goes_on.set()

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes]:
        """One request."""
        text = str(body["messages"][-1]["content"])
        with self._lock:
            self._left -= 1
            waits = self._left < 0 and not self._goes_on.is_set()
            if not waits:
                self.asked[text] += 1
            self.bodies.append({**body, "path": path})
            self.headers.append(headers)
        if waits:
            self._goes_on.wait(20)
        if self.raw is not None:
            return self.status, self.raw
        message = {"role": "assistant", "content": self.answer(text)}
        return self.status, json.dumps({"choices": [{"message": message}]}).encode()

    def close(self) -> None:
        self.resume()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    replica: AnsweringReplica

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, data = self.replica.take(self.path, headers, body)
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        with contextlib.suppress(ConnectionError):  # The one who asked may have given up.
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
