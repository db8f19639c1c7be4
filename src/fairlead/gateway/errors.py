"""What the gateway answers when it does not relay an answer: OpenAI's error form.

A `Refusal` is a value, not an exception: on the data plane nothing unwinds a stack.
"""

from __future__ import annotations

import math

import msgspec

from fairlead.domain.outcomes import REJECTED
from fairlead.gateway.limits import (
    BODY_PART_S,
    FIELDS_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    JSON_DEPTH_MAX,
    JSON_MARKS_MAX,
    RETRY_AFTER_S_MAX,
    URL_BYTES_MAX,
)


class Refusal(msgspec.Struct, frozen=True):
    """One answer in OpenAI's error form.

    Attributes:
        status: HTTP status.
        code: Machine code; also the label of the metric that counts it.
        retry_after_s: Value of the `retry-after` header, when trying again makes sense.
        allow: Value of the `allow` header of a 405.
        headers: Further header lines, each with the CRLF that ends it.
    """

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    retry_after_s: int | None = None
    allow: str | None = None
    headers: bytes = b""

    @property
    def body(self) -> bytes:
        """`{"error": {...}}`."""
        return msgspec.json.encode({"error": self._error()})

    @property
    def event(self) -> bytes:
        """The same as an event of a stream that has already begun."""
        return b"data: " + self.body + b"\n\n"

    def _error(self) -> dict[str, str | None]:
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


UNAUTHORIZED = Refusal(
    401,
    "invalid_api_key",
    "No valid API key was given. Send it as `Authorization: Bearer KEY`.",
    type="authentication_error",
)
NO_SNAPSHOT = Refusal(
    503,
    "no_snapshot",
    "The gateway has not been told yet what to serve.",
    type="service_unavailable",
    retry_after_s=1,
)
DRAINING = Refusal(
    503,
    "shutting_down",
    "This gateway worker is shutting down.",
    type="service_unavailable",
    retry_after_s=1,
)
OVERLOADED = Refusal(
    503,
    "overloaded",
    "The gateway holds as many requests as it may.",
    type="service_unavailable",
    retry_after_s=1,
)
SERVICE_GONE = Refusal(
    503,
    "service_gone",
    "The service was taken away while the request waited.",
    type="service_unavailable",
    retry_after_s=1,
)
QUEUE_FULL = Refusal(
    429,
    "queue_full",
    "Too many requests wait for this service.",
    type="rate_limit_exceeded",
    retry_after_s=1,
)
QUEUE_TIMEOUT = Refusal(
    503,
    "queue_timeout",
    "No replica of this service became free in time.",
    type="service_unavailable",
    retry_after_s=1,
)
RETRY_BUDGET_EXHAUSTED = Refusal(
    503,
    "retry_budget_exhausted",
    "The replica failed, and this service has retried as much as it may.",
    type="service_unavailable",
    retry_after_s=1,
)
TIMEOUT = Refusal(
    504, "timeout", "The answer did not come in time.", type="service_unavailable", retry_after_s=1
)
INTERNAL_ERROR = Refusal(
    500,
    "internal_error",
    "The gateway failed on this request; its log says how.",
    type="server_error",
)
UPSTREAM_ERROR = Refusal(
    502, "upstream_error", "The replica that should have answered failed.", type="server_error"
)
UPSTREAM_CUT = Refusal(
    502, "upstream_cut", "The replica failed in the middle of its answer.", type="server_error"
)
UPSTREAM_DIVERGED = Refusal(
    502,
    "upstream_diverged",
    "The replica that went on with the answer said another text than the client has.",
    type="server_error",
)
UPSTREAM_CREDENTIALS = Refusal(
    502,
    "upstream_credentials",
    "The model's provider refused the credentials or the account of this gateway.",
    type="server_error",
)
HEADER_TIMEOUT = Refusal(408, "header_timeout", "The request's head did not come in time.")
BODY_TIMEOUT = Refusal(
    408, "body_timeout", f"The request's body came too slowly (first {BODY_PART_S:g} s free)."
)
HEADERS_TOO_LARGE = Refusal(
    431,
    "headers_too_large",
    f"At most {HEADERS_MAX} headers and {HEADER_BYTES_MAX} bytes of them are accepted.",
)
URL_TOO_LONG = Refusal(414, "url_too_long", f"At most {URL_BYTES_MAX} bytes of URL are accepted.")
BAD_VERSION = Refusal(505, "http_version", "Only HTTP/1.1 (and 1.0) is spoken here.")
BAD_EXPECT = Refusal(417, "expectation", "Only `Expect: 100-continue` is understood.")
ENCODED_BODY = Refusal(415, "content_encoding", "Compressed request bodies are not accepted.")
TOO_COMPLEX = Refusal(
    400,
    "json_too_complex",
    f"JSON has more than {JSON_MARKS_MAX} brackets, quotes and escapes, or {FIELDS_MAX} fields.",
)
GIVEN_TWICE = Refusal(400, "invalid_body", "A field of the body is given twice.")
TOO_DEEP = Refusal(400, "json_too_deep", f"JSON is nested deeper than {JSON_DEPTH_MAX} levels.")
NOT_FOUND = Refusal(404, "not_found", "There is no such path here.")
NOTHING_RECORDED = Refusal(
    404, "nothing_recorded", "This gateway keeps no records, so it takes no feedback either."
)
UNKNOWN_REQUEST = Refusal(
    404,
    "request_not_found",
    "No request with this id was answered for this API key.",
    param="request_id",
)


def bad_framing(what: str) -> Refusal:
    """The request's framing is not one that every HTTP implementation reads the same way."""
    return Refusal(400, "bad_request", f"Malformed HTTP request: {what}.")


def invalid_body(what: str, param: str | None = None) -> Refusal:
    """The body is not what this path takes."""
    return Refusal(400, "invalid_body", what, param=param)


def not_served(kind: str) -> Refusal:
    """The release's engine says that it does not do this kind of request."""
    return Refusal(400, REJECTED, f"This release does not serve {kind}.", param="model")


def body_too_large(bytes_max: int) -> Refusal:
    """The body is larger than this service takes."""
    return Refusal(413, "body_too_large", f"At most {bytes_max} bytes of body are accepted.")


def model_not_found(name: str) -> Refusal:
    """`model` names no service."""
    return Refusal(
        404,
        "model_not_found",
        f"The model `{name[:80]}` does not exist; GET /v1/models lists those that do.",
        param="model",
    )


def no_release(name: str) -> Refusal:
    """The service has no champion yet."""
    return Refusal(
        503,
        "no_release",
        f"The service `{name}` has no release in service yet.",
        type="service_unavailable",
        retry_after_s=2,
    )


def wait_too_long(wait_s: float) -> Refusal:
    """The queue is longer than what can be served while the request may wait."""
    retry_after_s = max(1, min(RETRY_AFTER_S_MAX, math.ceil(wait_s)))
    return Refusal(
        503,
        "wait_too_long",
        f"No replica of this service would become free in time: the wait is {retry_after_s} s.",
        type="service_unavailable",
        retry_after_s=retry_after_s,
    )


def method_not_allowed(allow: str) -> Refusal:
    """The path exists, but not with this method."""
    return Refusal(405, "method_not_allowed", f"This path takes {allow} only.", allow=allow)
