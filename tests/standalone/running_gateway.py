"""`fairlead gateway run` as a process, in front of small engines of this process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fairlead.domain.api_keys import api_key_digest
from support.installation import descendants

WITHIN_S = 180.0
KEY = "fl-test"
KEYS = f"keys: [{{name: tester, sha256: {api_key_digest(KEY)}}}]\n"
StartEngine = Callable[..., "SmallEngine"]


def write(config: Path, *releases: str, top: str = KEYS, more: str = "") -> None:
    """A file with one service, replaced as a whole."""
    lines = "".join(f"  - {{{release}}}\n" for release in releases)
    text = f"listen: 127.0.0.1:0\n{top}services:\n- name: bank\n  releases:\n{lines}{more}"
    temporary = config.with_name("new.yaml")
    temporary.write_text(text)
    temporary.replace(config)


class SmallEngine:
    """Answers every completion with its own name, plain or as a stream, after `delay_s`.

    With `pause_s`, a stream has so many seconds between its events.
    """

    def __init__(
        self,
        name: str,
        delay_s: float = 0.0,
        pause_s: float = 0.0,
        usage: tuple[int, int] = (3, 2),
    ) -> None:
        self.name = name
        self.delay_s = delay_s
        self.usage = usage
        self.breaks_after = 0
        """Streams are cut off after so many events; 0 for never."""
        self.broken = 0
        self.asked: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/tokenize":
                    self.reply("application/json", json.dumps({"tokens": [1]}).encode())
                    return
                engine.asked.append(body)
                engine.authorizations.append(self.headers["authorization"])
                time.sleep(engine.delay_s)
                kind, data = engine.answer(body)
                if (pause_s or engine.breaks_after) and body.get("stream"):
                    self.trickle(kind, data)
                else:
                    self.reply(kind, data)

            def reply(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def trickle(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for number, event in enumerate(data.split(b"\n\n")[:-1]):
                    if engine.breaks_after and number == engine.breaks_after:
                        engine.broken += 1
                        self.close_connection = True
                        return
                    part = event + b"\n\n"
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    time.sleep(pause_s)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, body: dict[str, Any]) -> tuple[str, bytes]:
        base = {"id": "c", "created": 1, "model": str(body["model"])}
        prompt, completion = self.usage
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if not body.get("stream"):
            message = {"role": "assistant", "content": self.name}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            return "application/json", json.dumps(whole).encode()
        base["object"] = "chat.completion.chunk"
        parts: list[dict[str, Any]] = [
            {**base, "choices": [{"index": 0, "delta": {"content": letter}}]}
            for letter in self.name
        ]
        if body.get("stream_options", {}).get("include_usage"):
            parts.append({**base, "choices": [], "usage": usage})
        events = [f"data: {json.dumps(part)}\n\n" for part in parts]
        return "text/event-stream", "".join([*events, "data: [DONE]\n\n"]).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class RunningGateway:
    """One `fairlead gateway run`; its output is collected."""

    def __init__(
        self, config: Path, *options: str, log: str = "output.log", **environ: str
    ) -> None:
        self.config = config
        self.temporary = config.parent / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log = config.parent / log
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fairlead",
                    "gateway",
                    "run",
                    "--config",
                    str(config),
                    *options,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.temporary), **environ},
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def url(self) -> str:
        match = re.search(r"gateway at (https?://\S+)/v1", self.output)
        assert match is not None, self.output
        return match[1]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    @property
    def workers(self) -> list[int]:
        """Process ids."""
        return descendants(self.process.pid)

    def until(self, done: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + WITHIN_S
        while not done():
            assert time.monotonic() < deadline, f"{what}\n{self.output}"
            assert self.process.poll() is None, self.output
            time.sleep(0.02)

    def says(self, text: str) -> None:
        """Wait until it has said this."""
        self.until(lambda: text in self.output, text)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; nothing of it may be left after."""
        workers = self.workers
        self.process.send_signal(how)
        code = self.process.wait(WITHIN_S)
        assert [pid for pid in workers if is_running(pid)] == []
        assert list(self.temporary.iterdir()) == []
        return code


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def running(config: Path, *options: str, **environ: str) -> Iterator[RunningGateway]:
    """A gateway that has said where it listens."""
    made = RunningGateway(config, *options, **environ)
    try:
        made.says("service ")
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
