"""Whether an error inside a stream is the engine's own fault, or the request's. Pure.

An engine that dies may still say so, in a stream that it had begun with 200. Another replica can
go on with that request; it would only repeat an error that the request itself has earned.
"""

from __future__ import annotations

import msgspec

from fairlead.gateway.streams import events

_LOST = "EngineCore encountered an issue"
"""vLLM's words for an engine that is gone; its older versions send them with code 400."""
_NOT_IMPLEMENTED = 501
_TYPES = frozenset(
    {
        "server_error",
        "api_error",
        "overloaded_error",
        "unavailable_error",
        "InternalServerError",
        "Internal Server Error",
        "ServiceUnavailableError",
    }
)


class _Error(msgspec.Struct):
    message: object = None
    type: object = None
    code: object = None


class _Event(msgspec.Struct):
    error: _Error | None = None


_event = msgspec.json.Decoder(_Event)
_error = msgspec.json.Decoder(_Error)


def is_engine_fault(event: bytes) -> bool:
    """Whether this event reports that the engine failed, on a request that may be well."""
    if not events.is_error(event):
        return False
    try:
        if event.startswith(b"error:"):
            error: _Error | None = _error.decode(event[6:])
        else:
            error = _event.decode(events.payload(event)).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return error is not None and _is_engine_fault(error)


def _is_engine_fault(error: _Error) -> bool:
    if isinstance(error.message, str) and _LOST in error.message:
        return True
    code = error.code
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if isinstance(code, int):
        return code >= 500 and code != _NOT_IMPLEMENTED
    return error.type in _TYPES if isinstance(error.type, str) else False
