"""The request body: the few fields the gateway needs, and the body as the engine is to see it.

The body is never built as Python objects: what is not needed stays raw JSON. When it has to be
changed, or when it could be read in two ways (a field given twice), it is put together anew from
the top-level fields as they were read, so that the engine sees what the gateway saw.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import Any

import msgspec

from fairlead.domain.prompting import apply_release
from fairlead.domain.release import Prompt
from fairlead.gateway.errors import TOO_DEEP, Refusal, invalid_body
from fairlead.gateway.limits import JSON_DEPTH_MAX
from fairlead.wire.snapshot import ReleaseRoute

EMBEDDINGS = "embeddings"

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
_FIELDS_READ = (b'"model"', b'"stream"', b'"stream_options"', b'"user"', b'"messages"')
_KEYS_READ = [(name, re.compile(name + rb"\s*:")) for name in _FIELDS_READ]
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`, as far as the gateway uses it."""

    include_usage: bool | None = None


class Fields(msgspec.Struct):
    """What the gateway reads of a request."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def asks_usage(self) -> bool:
        """Whether the client wants the stream's usage event."""
        return self.stream_options is not None and self.stream_options.include_usage is True


_fields = msgspec.json.Decoder(Fields)
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)


def read_fields(body: bytes) -> Fields | Refusal:
    """Decode what is needed; a refusal says what is wrong with the body."""
    try:
        fields = _fields.decode(body)
    except msgspec.ValidationError as error:
        return invalid_body(f"The body does not fit: {error}.", _param(str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return invalid_body(f"The body is not valid JSON: {error}.")
    except RecursionError:
        return TOO_DEEP
    if not _is_utf8(body):
        return invalid_body("The body is not valid JSON: it is not UTF-8 throughout.")
    return TOO_DEEP if depth_of(body) > JSON_DEPTH_MAX else fields


def _is_utf8(body: bytes) -> bool:
    """The decoder looks only at the text that it needs, but all of it is sent on or read later."""
    if body.isascii():
        return True
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
    brackets = _STRINGS.sub(b"", body).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(array("b", brackets)), default=0)


def body_for(body: bytes, fields: Fields, kind: str, route: ReleaseRoute) -> bytes:
    """The body as the release's engine is to see it.

    Args:
        kind: `chat/completions`, `completions` or `embeddings`. Prompt and sampling defaults
            mean nothing to embeddings and are left out there.

    Raises:
        msgspec.DecodeError: A text that only now had to be read is none (half of an escaped
            surrogate pair).
    """
    shapes_text = kind != EMBEDDINGS
    prompt = route.prompt if shapes_text else Prompt()
    sampling = route.sampling if shapes_text else {}
    has_policy = bool(prompt.system or prompt.user or sampling or route.upstream_model)
    adds_usage = shapes_text and fields.stream is True and not fields.asks_usage
    if not has_policy and not adds_usage and not _is_ambiguous(body):
        return body
    parts: dict[str, Any] = dict(_parts.decode(body))
    if has_policy:
        if prompt.system or prompt.user:
            _open_up(parts)
        parts = apply_release(
            parts, prompt=prompt, sampling=sampling, upstream_model=route.upstream_model
        )
    if adds_usage:
        parts["stream_options"] = _with_usage(parts.get("stream_options"))
    return msgspec.json.encode(parts)


def _is_ambiguous(body: bytes) -> bool:
    """Whether a field that the gateway reads might be there twice (or spelt with escapes)."""
    for name, key in _KEYS_READ:
        if body.count(name) > 1 and len(key.findall(body)) > 1:
            return True
    return b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _open_up(parts: dict[str, Any]) -> None:
    """Decode what a prompt template is applied to: the messages' roles and contents, or `prompt`.

    What has another form than the API's is left raw, for the engine to refuse.
    """
    if "messages" in parts:
        try:
            messages: list[dict[str, Any]] = [dict(m) for m in _messages.decode(parts["messages"])]
        except msgspec.DecodeError:
            return
        for message in messages:
            for name in ("role", "content"):
                if name in message:
                    message[name] = _opened(message[name])
        parts["messages"] = messages
    elif "prompt" in parts:
        parts["prompt"] = _opened(parts["prompt"])


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
