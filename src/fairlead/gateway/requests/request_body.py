"""The request body: the few fields the gateway needs, and the body as the engine is to see it.

The body is never built as Python objects: what is not needed stays raw JSON. When it has to be
changed, it is put together anew from the top-level fields as they were read. What could be read in
two ways (a field given twice) is refused, so that the engine sees what the gateway saw.

All of this runs on the event loop, so what it costs is bounded by `JSON_MARKS_MAX`, not by the
size of the body: 30 MB of empty strings would otherwise hold up everybody for seconds. A body that
comes in parts is refused for its marks as soon as it has too many (`front.incoming`).
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import Any

import msgspec

from fairlead.domain.prompting import apply_release, apply_to_messages, apply_to_responses
from fairlead.domain.release import Prompt
from fairlead.gateway.errors import (
    GIVEN_TWICE,
    TOO_COMPLEX,
    TOO_DEEP,
    Refusal,
    invalid_body,
)
from fairlead.gateway.limits import FIELDS_MAX, JSON_DEPTH_MAX, JSON_MARKS_MAX
from fairlead.gateway.requests.dialects import MESSAGES, PASSED_THROUGH, RESPONSES
from fairlead.gateway.requests.fields import Fields, decode_fields
from fairlead.wire.snapshot import ReleaseRoute

EMBEDDINGS = "embeddings"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `body_for` raises when the body turns out to be none."""

_MARKS = b'[]{}"'
_NOT_MARKS = bytes(set(range(256)) - set(_MARKS))
_NOT_COUNTED = bytes(set(_NOT_MARKS) - set(b"\\"))
_NOT_OPENING = bytes(set(range(256)) - set(b"[{"))
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")
_MEMBER = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"(?:[^"\\]|\\.)*+"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_CLOSE = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")
_FIRST_FIELDS = 100
"""Spaces between fields are seen in so many bytes."""
_LARGE = 256 * 1024
"""From here on a field given twice is looked for straight away: to put a body together anew, or to
count in it, costs more. A smaller one cannot have too many marks."""
_FIELDS_READ = ("model", "stream", "tools", "stream_options", "user", "messages", "prompt")
_KEYS_READ = {name: re.compile(rb'"%b"\s*:' % name.encode()) for name in _FIELDS_READ}
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_text = msgspec.json.Decoder(str)
_APPLY = {RESPONSES: apply_to_responses, MESSAGES: apply_to_messages}


def read_fields(body: bytes) -> Fields | Refusal:
    """Decode what is needed; a refusal says what is wrong with the body."""
    is_large = len(body) > _LARGE
    marks = body.translate(None, _NOT_COUNTED) if is_large else body
    if len(marks) > JSON_MARKS_MAX:
        return TOO_COMPLEX
    try:
        fields = decode_fields(body)
    except msgspec.ValidationError as error:
        return invalid_body(f"The body does not fit: {error}.", _param(str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return invalid_body(f"The body is not valid JSON: {error}.")
    except RecursionError:
        return TOO_DEEP
    if not body.isascii() and not _is_utf8(body):
        return invalid_body("The body is not valid JSON: it is not UTF-8 throughout.")
    opening = marks.translate(None, _NOT_OPENING)
    if len(opening) > JSON_DEPTH_MAX and depth_of(body) > JSON_DEPTH_MAX:
        return TOO_DEEP
    if is_large or (not _is_plain(body) and _may_be_ambiguous(body)):
        return _ambiguity(body) or fields
    return fields


def marks_in(data: bytes) -> int:
    """What `JSON_MARKS_MAX` bounds, in a part of a body."""
    return len(data.translate(None, _NOT_COUNTED))


def _is_utf8(body: bytes) -> bool:
    """The decoder looks only at the text that it needs, but all of it is sent on or read later."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def depth_of(body: bytes) -> int:
    """How deep valid JSON is nested; an upper bound when there are few brackets at all."""
    opening = body.count(b"[") + body.count(b"{")
    if opening <= JSON_DEPTH_MAX:
        return opening
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # What two neighbouring quotes enclose or separate has no bracket in it: without them, the
    # other brackets are inside or outside of strings as before.
    marks = body.translate(None, _NOT_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def is_shaping(route: ReleaseRoute) -> bool:
    """Whether what is asked of this release is changed, at least for some kinds of requests."""
    prompt = route.prompt
    return bool(prompt.system or prompt.user or route.sampling or route.upstream_model)


def body_for(body: bytes, fields: Fields, kind: str, route: ReleaseRoute) -> bytes:
    """The body as the release's engine is to see it.

    Args:
        kind: As in `Call`. Prompt and sampling defaults mean nothing to embeddings and are left
            out there.

    Raises:
        msgspec.DecodeError: A text that only now had to be read is none (half of an escaped
            surrogate pair).
    """
    shapes_text = kind != EMBEDDINGS
    prompt = route.prompt if shapes_text else Prompt()
    sampling = route.sampling if shapes_text else {}
    has_policy = bool(prompt.system or prompt.user or sampling or route.upstream_model)
    adds_usage = (
        shapes_text
        and fields.stream is True
        and not fields.asks_usage
        and kind not in PASSED_THROUGH  # Their streams always tell of usage.
    )
    if not has_policy and not adds_usage:
        return body
    parts: dict[str, Any] = dict(_parts.decode(body))
    if has_policy:
        if prompt.system or prompt.user:
            _open_up(parts)
        parts = _APPLY.get(kind, apply_release)(
            parts, prompt=prompt, sampling=sampling, upstream_model=route.upstream_model
        )
    if adds_usage:
        parts["stream_options"] = _with_usage(parts.get("stream_options"))
    return msgspec.json.encode(parts)


def _is_plain(body: bytes) -> bool:
    """Whether no field is there twice, as is soon seen of JSON without spaces between its fields.

    Put together anew from its fields it is the same bytes, so that none of them was dropped.
    """
    if body.find(b'": ', 0, _FIRST_FIELDS) >= 0:
        return False
    try:
        parts = _parts.decode(body)
    except UNREADABLE:
        return False
    return len(parts) <= FIELDS_MAX and _encoder.encode(parts) == body


def _may_be_ambiguous(body: bytes) -> bool:
    """Whether a field that the gateway reads might be there twice (or spelt with escapes)."""
    count = body.count
    # In one expression, for every request. "user" is also a role: behind a colon it is no key.
    if (
        (
            (users := count(b'"user"')) > 1
            and users - count(b':"user"') - count(b': "user"') > 1
            and _is_key_twice("user", body)
        )
        or (count(b'"model"') > 1 and _is_key_twice("model", body))
        or (count(b'"messages"') > 1 and _is_key_twice("messages", body))
        or (count(b'"prompt"') > 1 and _is_key_twice("prompt", body))
        or (count(b'"tools"') > 1 and _is_key_twice("tools", body))
        or (count(b'"stream') > 1 and _is_stream_twice(body))
    ):
        return True
    return b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _is_key_twice(name: str, body: bytes) -> bool:
    return len(_KEYS_READ[name].findall(body)) > 1


def _is_stream_twice(body: bytes) -> bool:
    return _is_key_twice("stream", body) or _is_key_twice("stream_options", body)


def _ambiguity(body: bytes) -> Refusal | None:
    """Refuse a valid body that has a top-level field twice.

    Of a field given twice, the decoder keeps the last value. So the text is walked along the
    values that it kept: either they tile it to its end, or a value is met that was not kept.
    """
    try:
        values = _parts.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return invalid_body(f"The body is not valid JSON: {error}.")
    if len(values) > FIELDS_MAX:
        return TOO_COMPLEX
    at = 0
    for value in values.values():
        member = _MEMBER.match(body, at)
        if member is None or not body.startswith(value, member.end()):
            return GIVEN_TWICE
        at = member.end() + len(memoryview(value))
    return None if _CLOSE.fullmatch(body, at) is not None else GIVEN_TWICE


def _open_up(parts: dict[str, Any]) -> None:
    """Decode what a prompt template is applied to: the messages' roles and contents, or `prompt`.

    What has another form than the API's is left raw, for the engine to refuse.
    """
    for name in ("instructions", "system"):
        if name in parts and bytes(parts[name]) == b"null":
            parts[name] = None
    if "messages" in parts:
        _open_messages(parts, "messages")
    elif "prompt" in parts:
        parts["prompt"] = _opened(parts["prompt"])
    elif "input" in parts:
        if memoryview(parts["input"])[0] == ord("["):
            _open_messages(parts, "input")
        else:
            parts["input"] = _opened(parts["input"])


def _open_messages(parts: dict[str, Any], where: str) -> None:
    try:
        messages: list[dict[str, Any]] = [dict(m) for m in _messages.decode(parts[where])]
    except msgspec.DecodeError:
        return
    for message in messages:
        for name in ("role", "content"):
            if name in message:
                message[name] = _opened(message[name])
        if isinstance(message.get("content"), list):
            message["content"] = [_opened_part(part) for part in message["content"]]
    parts[where] = messages


def _opened_part(raw: msgspec.Raw) -> Any:
    """A part that may be a tool's result is told apart from what the user says."""
    if b'"tool_result"' not in memoryview(raw).tobytes():
        return raw
    part: dict[str, Any] = dict(_parts.decode(raw))
    if "type" in part:
        part["type"] = _opened(part["type"])
    return part


def _opened(raw: msgspec.Raw) -> Any:
    first = memoryview(raw)[0]
    if first == ord('"'):
        return _text.decode(raw)
    if first == ord("["):
        return _raws.decode(raw)
    return raw


def _with_usage(raw: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if raw is not None and bytes(raw) != b"null":
        options = dict(_parts.decode(raw))
    return {**options, "include_usage": True}


def _param(message: str) -> str | None:
    """The field that a msgspec message is about."""
    if "`model`" in message:
        return "model"
    _, _, path = message.rpartition("`$.")
    return path.rstrip("`") or None if "`$." in message else None
