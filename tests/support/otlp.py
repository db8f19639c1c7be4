"""An OTLP endpoint that takes spans as strictly as protobuf's own JSON parser does."""

from __future__ import annotations

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def parse(body: bytes) -> list[Any]:
    """The spans of a request, as protobuf messages. Raises for what is not in the form.

    OTLP's JSON differs from protobuf's in one thing: ids are hexadecimal, not base64.
    """
    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name, digits in _IDS.items():
                    if name in span:
                        assert re.fullmatch(f"[0-9a-f]{{{digits}}}", span[name]), span[name]
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    message = ParseDict(document, ExportTraceServiceRequest())
    return [
        span
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def attributes(span: Any) -> dict[str, Any]:
    """Values by name."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


class Collector:
    """Listens on loopback.

    Attributes:
        spans: What it has taken.
        answers: Statuses of the next answers; 200 when there are no more of them.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.problems: list[str] = []
        self.answers: list[int] = []
        self.asked = 0
        self.body = b"{}"
        handler = type("Handler", (_Handler,), {"collector": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, path: str, kind: str, body: bytes) -> int:
        """One request; the status to answer."""
        self.asked += 1
        status = self.answers.pop(0) if self.answers else 200
        if status != 200:
            return status
        try:
            assert path == "/v1/traces", path
            assert kind == "application/json", kind
            self.spans += parse(body)
        except (AssertionError, KeyError, TypeError, ValueError, ParseError) as error:
            self.problems.append(repr(error))
            return 400
        return 200

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.collector.take(self.path, self.headers["content-type"], body)
        self.send_response(status)
        self.send_header("location", "http://127.0.0.1:9/elsewhere")
        self.send_header("content-length", str(len(self.collector.body)))
        self.end_headers()
        self.wfile.write(self.collector.body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
