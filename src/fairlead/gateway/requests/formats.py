"""The format that a request asks for: JSON, JSON by a schema, calls of tools by theirs.

What a request declares is read from its body once, and only where a metric of the service looks at
formats. Answers longer than `SCHEMA_CHARS` are held against no schema, and a schema is looked at as
far as `fairlead.domain.json_shape` does.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_json, decode_with
from fairlead.domain.json_shape import SCHEMA_BYTES_MAX, Shape, shape_of

SCHEMA_CHARS = 64 * 1024
"""Characters of an answer, or of a tool's arguments, that are held against a schema."""
TOOLS_MAX = 128
CALLS_MAX = 32
"""Calls of tools in one answer that are looked at."""

_JSON_TYPES = frozenset({"json_object", "json_schema"})
_NOTHING = msgspec.Raw()


class _Named(msgspec.Struct):
    schema: msgspec.Raw = _NOTHING


class _Typed(msgspec.Struct):
    """`response_format`, or `text.format` of the Responses API."""

    type: str | None = None
    json_schema: _Named | None = None
    schema: msgspec.Raw = _NOTHING


class _TextFormat(msgspec.Struct):
    format: _Typed | None = None


class _Function(msgspec.Struct):
    name: str = ""
    parameters: msgspec.Raw = _NOTHING


class _Tool(msgspec.Struct):
    """A tool of Chat Completions, of the Responses API, or of Messages."""

    name: str = ""
    function: _Function | None = None
    parameters: msgspec.Raw = _NOTHING
    input_schema: msgspec.Raw = _NOTHING


class _Asked(msgspec.Struct):
    response_format: _Typed | None = None
    text: _TextFormat | None = None


class _AskedTools(msgspec.Struct):
    tools: list[_Tool] | None = None


_asked = msgspec.json.Decoder(_Asked)
_tools = msgspec.json.Decoder(_AskedTools)
_value = msgspec.json.Decoder()


class Format:
    """What an answer is to be.

    Attributes:
        is_json: Its text is to be JSON.
    """

    __slots__ = ("_schema", "_tools", "is_json")

    def __init__(self, body: bytes, *, always_json: bool = False) -> None:
        given = _format_of(body)
        self.is_json = always_json or (given is not None and given.type in _JSON_TYPES)
        self._schema: Shape | None = None
        if given is not None:
            raw = given.json_schema.schema if given.json_schema is not None else given.schema
            self._schema = _shape(raw)
        self._tools = _tools_of(body)  # Raw: of many tools few are called.

    @property
    def is_declared(self) -> bool:
        """Whether there is a format to keep."""
        return self.is_json or self._tools is not None

    @property
    def has_tools(self) -> bool:
        return self._tools is not None

    def is_broken_by(self, text: str, calls: list[Call]) -> bool:
        """Whether an answer of this text, with these calls of tools, does not keep to it.

        A text beside calls of tools is a remark, and need be no JSON.
        """
        if self._tools is not None and calls:
            return any(self._is_bad(call) for call in calls[:CALLS_MAX])
        return self.is_json and _breaks(self._schema, text)

    def _is_bad(self, call: Call) -> bool:
        assert self._tools is not None
        if call.name not in self._tools:
            return True
        return _breaks(_shape(self._tools[call.name]), call.arguments or "{}")


class Call:
    """A call of a tool, as it comes."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str = "", arguments: str = "") -> None:
        self.name = name
        self.arguments = arguments


def asks_json(body: bytes) -> bool:
    """Whether a request asks for an answer in JSON."""
    given = _format_of(body)
    return given is not None and given.type in _JSON_TYPES


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    return not _breaks(None, text)


def _breaks(shape: Shape | None, text: str) -> bool:
    data = text.encode(errors="surrogatepass")
    try:
        if shape is None or len(text) > SCHEMA_CHARS:
            decode_json(data, msgspec.Raw)
            return False
        return shape.is_broken_by(decode_with(_value, data))
    except msgspec.DecodeError:
        return True


def _format_of(body: bytes) -> _Typed | None:
    if b"json_" not in body:
        return None
    try:
        asked = decode_with(_asked, body)
    except msgspec.DecodeError:
        return None
    if asked.response_format is None and asked.text is not None:
        return asked.text.format
    return asked.response_format


def _tools_of(body: bytes) -> dict[str, msgspec.Raw] | None:
    """The tools' schemas by name; None where there are none, or more than are looked at."""
    if b'"tools"' not in body:
        return None
    try:
        tools = decode_with(_tools, body).tools
    except msgspec.DecodeError:
        return None
    if not tools or len(tools) > TOOLS_MAX:
        return None
    found: dict[str, msgspec.Raw] = {}
    for tool in tools:
        if tool.function is not None:
            found[tool.function.name] = tool.function.parameters
        elif tool.name:
            found[tool.name] = tool.parameters if bytes(tool.parameters) else tool.input_schema
        else:
            return None  # A tool of the provider's own, whose calls have names of their own.
    return found


def _shape(raw: msgspec.Raw) -> Shape | None:
    data = bytes(raw)
    return shape_of(data) if 0 < len(data) <= SCHEMA_BYTES_MAX else None
