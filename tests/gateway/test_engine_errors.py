"""Which errors inside a stream are the engine's own."""

from __future__ import annotations

import pytest

from fairlead.gateway.streams.engine_errors import is_engine_fault


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "m", "type": "InternalServerError", "code": 500}}\n\n',
        b'data: {"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}\n\n',
        b'data: {"error":{"code":"500"}}\r\n\r\n',
        b'data: {"error":{"message":"m","type":"server_error","code":null}}\n\n',
        # As older versions of vLLM say that their engine is gone.
        b'data: {"error":{"message":"EngineCore encountered an issue. See","code":400}}\n\n',
        b'error: {"code":500,"message":"m","type":"server_error"}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
    ],
)
def test_a_failure_of_the_engine(event: bytes) -> None:
    assert is_engine_fault(event)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "m", "type": "BadRequestError", "code": 400}}\n\n',
        b'data: {"error":{"code":501,"message":"m","type":"NotImplementedError"}}\n\n',
        b'data: {"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}\n\n',
        b'data: {"error":{"code":429,"type":"rate_limit_exceeded"}}\n\n',
        b'data: {"error":{"code":true,"type":["server_error"]}}\n\n',
        b'data: {"error":"server_error"}\n\n',
        b'data: {"error":{"code":500\n\n',
        b'data: {"error":null}\n\n',
        b"event: error\n\n",
        # A text that speaks of an error.
        b'data: {"choices":[{"delta":{"content":"{\\"error\\":{\\"code\\":500}}"}}]}\n\n',
    ],
)
def test_anything_else_is_for_the_client(event: bytes) -> None:
    assert not is_engine_fault(event)
