"""The items of a YAML list with their lines, as values that JSON has.

Scalars are read by YAML 1.2's rules, so that `no`, `1:30`, `010` and dates stay text. There are no
aliases and no tags, and depth is bounded. (The pure Python loader is used because the one in C
recurses without a bound.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

DEPTH_MAX = 40


class YamlMistake(Exception):
    """What is wrong, and at which line (1 upwards)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases, to a bounded depth."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the loader's own table, filled below

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; raises when it is an alias or lies too deep."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlMistake(line, "aliases are not supported in suites")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise YamlMistake(line, f"nested deeper than {DEPTH_MAX} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _text(text: str) -> str:
    text.encode()  # half of a surrogate pair, from an escape, is no text
    return text


_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text],
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "str": _text,
}
_NUMBER = list("-+0123456789")
for _name, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", _NUMBER),
    (
        "float",
        r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)",
        _NUMBER,
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


def yaml_items(text: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for each item of the list that the text holds; raises YamlMistake."""
    for item in _nodes(text):
        yield item.start_mark.line + 1, _value(item)


def _nodes(text: str) -> list[yaml.Node]:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlMistake(line, f"not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlMistake(line, "a character that is not allowed") from None
    except (ValueError, OverflowError):  # escapes and versions beyond all bounds
        line = loader.line + 1 if loader else 1
        raise YamlMistake(line, "not valid YAML: it cannot be read") from None
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise YamlMistake(1, "must be a list of cases")
    items: list[yaml.Node] = node.value
    return items


def _value(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(item) for item in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                raise YamlMistake(key_node.start_mark.line + 1, "a key is not text")
            key = _value(key_node)
            if key in values:
                line = key_node.start_mark.line + 1
                raise YamlMistake(line, f"the key {key[:60]} is there twice")
            values[key] = _value(value_node)
        return values
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            raise YamlMistake(line, "a value that cannot be read") from None
    raise YamlMistake(line, f"the tag {node.tag.replace(_TAG, '!!')[:60]} is not supported")
