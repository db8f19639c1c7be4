"""Where alerts arrive: an HTTP server and a mail server, on loopback."""

from __future__ import annotations

import contextlib
import json
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Call(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HttpReceiver:
    """Notes each POST, and answers what it is told to.

    Attributes:
        answers: Statuses for the next calls; when there are none left, 200.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: list[int] = []
        self.came = threading.Condition()
        handler = type("Handler", (_Handler,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def wait_for(self, count: int, timeout_s: float = 60.0) -> list[Call]:
        """The calls, once there are so many."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.calls) >= count, timeout_s), self.calls
            return list(self.calls)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    receiver: HttpReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.receiver.came:
            self.receiver.calls.append(Call(self.path, headers, body))
            status = self.receiver.answers.pop(0) if self.receiver.answers else 200
            self.receiver.came.notify_all()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class MailServer:
    """A small SMTP server.

    Attributes:
        mails: What it took, as text.
        said: Every line that clients said.
        answer: What it says to a mail.
        refused: Addresses for which it takes none.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> None:
        self.mails: list[str] = []
        self.said: list[str] = []
        self.secured: list[bool] = []
        self.answer = "250 taken"
        self.refused: set[str] = set()
        self.tls, self.at_once = tls, at_once
        handler = type("Handler", (_MailHandler,), {"mail_server": self})
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _MailHandler(socketserver.BaseRequestHandler):
    mail_server: MailServer
    _file: Any = None

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            if self.mail_server.tls is not None and self.mail_server.at_once:
                self._secure()
            self._open()
            self._say("220 mail.example")
            while self._take(self._file.readline().decode().rstrip("\r\n")):
                pass

    def finish(self) -> None:
        if self._file is not None:
            self._file.close()
        self.request.close()

    def _secure(self) -> None:
        assert self.mail_server.tls is not None
        plain = self.request
        self.request = self.mail_server.tls.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )
        self.request.do_handshake()

    def _open(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self.request.makefile("rb")

    def _say(self, text: str) -> None:
        self.request.sendall(f"{text}\r\n".encode())

    def _take(self, line: str) -> bool:
        self.mail_server.said.append(line)
        is_secure = isinstance(self.request, ssl.SSLSocket)
        word = line.partition(" ")[0].upper()
        if word == "EHLO":
            offers = self.mail_server.tls is not None and not is_secure
            self._say("250-mail.example" + ("\r\n250-STARTTLS" if offers else ""))
            self._say("250 AUTH PLAIN")
        elif word == "STARTTLS":
            self._say("220 go on")
            self._secure()
            self._open()
        elif word == "AUTH":
            self._say("235 welcome")
        elif word == "DATA":
            self._say("354 go on")
            self._mail(is_secure)
        elif word == "RCPT" and any(one in line for one in self.mail_server.refused):
            self._say("550 no such user")
        elif word in ("MAIL", "RCPT", "RSET", "NOOP"):
            self._say("250 fine")
        elif word == "QUIT":
            self._say("221 bye")
            return False
        return bool(line)

    def _mail(self, is_secure: bool) -> None:
        lines = []
        while (line := self._file.readline()) not in (b".\r\n", b""):
            lines.append(line.decode())
        if self.mail_server.answer.startswith("250"):
            self.mail_server.mails.append("".join(lines))
            self.mail_server.secured.append(is_secure)
        self._say(self.mail_server.answer)


class Dripping:
    """Takes connections, and says one byte after another without ever coming to an end."""

    def __init__(self, begin: bytes = b"") -> None:
        self._is_over = threading.Event()
        is_over = self._is_over

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    self.request.sendall(begin)
                    while not is_over.wait(0.02):
                        self.request.sendall(b"2")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Dripping:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
