"""The other APIs: errors in their form, usage in their events, ends of their streams."""

from __future__ import annotations

import json

import msgspec
import pytest

from fairlead.domain.release import Prompt
from fairlead.gateway import errors
from fairlead.gateway.requests import dialects
from fairlead.gateway.requests.metering import StreamMeter, usage_of_tail
from fairlead.gateway.requests.request_body import body_for, read_fields
from fairlead.gateway.requests.usage import UNKNOWN, Usage, usage_of_answer
from fairlead.gateway.streams.events import EventSplitter, has_content, is_done, is_error
from fairlead.wire.snapshot import ReleaseRoute


@pytest.mark.parametrize(
    "body", [b"", b"nothing", b'{"detail": "Not Found"}', b'{"error": {"code": 404}}', b"[]"]
)
@pytest.mark.parametrize("kind", ["responses", "messages"])
def test_a_path_that_is_not_there_is_a_clear_400(kind: str, body: bytes) -> None:
    status, said = dialects.rejected(kind, 404, body)
    assert status == 400
    assert f"does not serve {kind}" in json.loads(said)["error"]["message"]


def test_what_the_api_does_not_find_stays_a_404() -> None:
    for error in ({"param": "model"}, {"code": "not_there"}):
        body = json.dumps({"error": error}).encode()
        assert dialects.rejected("responses", 404, body) == (404, body)
    body = b'{"type": "error", "error": {"type": "not_found_error", "message": "m"}}'
    assert dialects.rejected("messages", 404, body) == (404, body)
    assert dialects.rejected("chat/completions", 404, b"x") == (404, b"x")


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (errors.UNAUTHORIZED, "authentication_error"),
        (errors.QUEUE_FULL, "rate_limit_error"),
        (errors.QUEUE_TIMEOUT, "overloaded_error"),
        (errors.UPSTREAM_ERROR, "api_error"),
        (errors.TOO_DEEP, "invalid_request_error"),
    ],
)
def test_refusals_have_anthropic_s_types(refusal: errors.Refusal, kind: str) -> None:
    body = json.loads(dialects.error_body("messages", refusal))
    assert body == {"type": "error", "error": {"type": kind, "message": refusal.message}}
    event = dialects.error_event("messages", refusal)
    assert is_error(event)
    assert event.endswith(b"\n\n")


def test_a_provider_s_key_goes_where_its_api_wants_it() -> None:
    assert dialects.credentials("responses", "Bearer k") == ("Bearer k", "")
    authorization, more = dialects.credentials("messages", "Bearer k")
    assert (authorization, "x-api-key: k\r\n" in more) == ("Bearer k", True)
    assert dialects.credentials("messages", "Bearer sk-ant-1")[0] == ""
    assert "x-api-key" not in dialects.credentials("messages", "")[1]


@pytest.mark.parametrize("body", [b"{", b'{"metadata": 3}', b'{"metadata": {"user_id": 3}}'])
def test_odd_metadata_is_left_to_the_engine(body: bytes) -> None:
    assert dialects.user_of("messages", body, None) is None


def test_usage_of_both_apis() -> None:
    responses = b'{"usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}}'
    cached = b'{"usage": {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 3}}'
    assert usage_of_answer(responses) == usage_of_answer(cached) == Usage(7, 3)
    assert usage_of_tail(responses) == Usage(7, 3)
    assert usage_of_answer(b'{"usage": {"input_tokens": "many"}}') == UNKNOWN
    assert usage_of_answer(b'{"usage": null, "response": null}') == UNKNOWN


def test_a_stream_s_usage_is_put_together_from_its_events() -> None:
    meter = StreamMeter()
    begun = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 0}}}
    meter.note_usage(b"event: message_start\ndata: " + json.dumps(begun).encode() + b"\n\n")
    assert meter.usage == Usage(7, 0)
    meter.note_usage(b'event: message_delta\ndata: {"usage": {"output_tokens": 3}}\n\n')
    assert meter.usage == Usage(7, 3)


def test_ends_and_contents_of_their_streams_are_known() -> None:
    for name in ("response.completed", "response.incomplete", "response.failed", "message_stop"):
        assert is_done(f"event: {name}\ndata: {{}}\n\n".encode())
    for name in ("response.created", "message_start", "content_block_stop", "ping"):
        event = f"event: {name}\ndata: {{}}\n\n".encode()
        assert not is_done(event)
        assert not has_content(event)
        assert EventSplitter().whole(event) is None, "each of them is looked at"
    for name in ("response.output_text.delta", "content_block_delta", "message"):
        assert has_content(f"event: {name}\ndata: {{}}\n\n".encode())
    assert is_error(b"event: response.failed\ndata: {}\n\n")


def test_a_release_shapes_their_bodies_without_reading_more_than_it_needs() -> None:
    release = ReleaseRoute("d", "n", (), Prompt(system="S", user="<{input}>"), {"max_tokens": 5})
    body = b'{"model":"m","input":[{"role":"user","content":"hi"}],"instructions":null}'
    fields = read_fields(body)
    assert not isinstance(fields, errors.Refusal)
    sent = msgspec.json.decode(body_for(body, fields, "responses", release))
    assert sent["input"] == [{"role": "user", "content": "<hi>"}]
    assert (sent["instructions"], sent["max_output_tokens"]) == ("S", 5)
    result = {"role": "user", "content": [{"type": "tool_result", "content": "x"}]}
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}, result]}
    body = json.dumps(asked).encode()
    fields = read_fields(body)
    assert not isinstance(fields, errors.Refusal)
    sent = msgspec.json.decode(body_for(body, fields, "messages", release))
    assert sent["messages"] == [{"role": "user", "content": "<hi>"}, result]
    assert (sent["system"], sent["max_tokens"]) == ("S", 5)
    assert "stream_options" not in sent
