"""Two other APIs that are passed through to engines that speak them, metered like the rest.

`responses` is OpenAI's Responses API, `messages` Anthropic's Messages API. Here is what differs
from the chat API: the key's header, the form of errors, and how an engine says that it does not
speak the API. How a release shapes their bodies is in `fairlead.domain.prompting`, their usage in
`metering`, their events in `events`.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.gateway.errors import Refusal, not_served

RESPONSES = "responses"
MESSAGES = "messages"
PASSED_THROUGH = frozenset({RESPONSES, MESSAGES})

_NO_SUCH_PATH = frozenset({404, 405})
_ANTHROPIC_VERSION = "2023-06-01"
_ANTHROPIC_KEY = "sk-ant-"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_MESSAGE_CHARS_MAX = 2000


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _HasMetadata(msgspec.Struct):
    metadata: _Metadata | None = None


class _Problem(msgspec.Struct):
    """What engines and providers answer with, as far as it is looked at."""

    message: str | None = None
    param: str | None = None
    code: str | int | None = None


class _Error(msgspec.Struct):
    error: _Problem | None = None
    type: str | None = None


_metadata = msgspec.json.Decoder(_HasMetadata)


def user_of(kind: str, body: bytes, user: str | None) -> str | None:
    """Who the client says that it asks for: `user`, or `metadata.user_id` in Anthropic's API."""
    if kind != MESSAGES:
        return user
    try:
        metadata = _metadata.decode(body).metadata
    except msgspec.DecodeError:
        return user  # It is the engine that refuses such a body.
    return metadata.user_id if metadata is not None else user


class _MayRunOn(msgspec.Struct):
    background: object = None


_may_run_on = msgspec.json.Decoder(_MayRunOn)


def runs_on(kind: str, body: bytes) -> bool:
    """Whether the answer would be made after the request is over (`background` of Responses)."""
    if kind != RESPONSES or b"background" not in body:
        return False
    try:
        return bool(_may_run_on.decode(body).background)
    except msgspec.DecodeError:
        return False  # It is the engine that refuses such a body.


def credentials(kind: str, authorization: str) -> tuple[str, str]:
    """The `authorization` of a request to a replica, and header lines that go beside it."""
    if kind != MESSAGES:
        return authorization, ""
    lines = f"anthropic-version: {_ANTHROPIC_VERSION}\r\n"
    key = authorization.removeprefix("Bearer ")
    if key:
        lines += f"x-api-key: {key}\r\n"
    return ("" if key.startswith(_ANTHROPIC_KEY) else authorization), lines


def error_body(kind: str, refusal: Refusal) -> bytes:
    """A refusal as the API of the request shows errors."""
    return _anthropic(refusal.status, refusal.message) if kind == MESSAGES else refusal.body


def error_event(kind: str, refusal: Refusal) -> bytes:
    """The same as an event of a stream that has already begun."""
    if kind == MESSAGES:
        return b"event: error\ndata: " + error_body(kind, refusal) + b"\n\n"
    if kind == RESPONSES:
        error = {"type": "error", "code": refusal.code, "message": refusal.message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(error) + b"\n\n"
    return refusal.event


def kind_of(path: str) -> str:
    """The kind of a request, as far as the form of its errors depends on it."""
    return MESSAGES if path.startswith("/v1/messages") else ""


def rejected(kind: str, status: int, body: bytes) -> tuple[int, bytes]:
    """An engine's 4xx as the client is to see it."""
    if kind not in PASSED_THROUGH:
        return status, body
    error = _error_in(body)
    if status in _NO_SUCH_PATH and not _is_of_the_api(error):
        refusal = not_served(kind)
        return refusal.status, error_body(kind, refusal)
    if kind == MESSAGES and (error is None or error.type != "error"):
        text = error.error.message if error is not None and error.error is not None else None
        given = text or body.decode(errors="replace") or "The engine refused the request."
        return status, _anthropic(status, given[:_MESSAGE_CHARS_MAX])
    return status, body


def _error_in(body: bytes) -> _Error | None:
    try:
        return decode_json(body, _Error)
    except msgspec.DecodeError:
        return None


def _is_of_the_api(error: _Error | None) -> bool:
    """Whether the API itself misses what the request names, rather than a server the path."""
    if error is None or error.error is None:
        return False
    return error.type == "error" or bool(error.error.param) or isinstance(error.error.code, str)


def _anthropic(status: int, message: str) -> bytes:
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})
