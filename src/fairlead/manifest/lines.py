"""YAML into plain data, with the line of every key and item.

Scalars are read by YAML 1.2's core schema, so that `no`, `on`, `1:30` and `2026-01-01` stay text.
Everything has a bound: bytes, depth, and the size after aliases are expanded, so that neither deep
nesting nor an alias bomb costs more than a clear error. (The pure Python loader is used because
the one in C recurses without a bound.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

BYTES_MAX = 256 * 1024
DEPTH_MAX = 20
NODES_MAX = 20_000

Path = tuple[str | int, ...]
"""Keys and indices that lead from the top of the file to a place in it."""


class Problem(NamedTuple):
    """Something wrong at a line (1 upwards). Problems sort by line."""

    line: int
    message: str


class Located(NamedTuple):
    """Plain data and the line of every key and item in it."""

    data: Any
    lines: dict[Path, int]
    problems: list[Problem]
    unreadable: frozenset[Path] = frozenset()
    """Places whose value could not be read; `problems` says why."""

    def path_of(self, loc: Path) -> Path:
        """The part of `loc` that is in the file: without model tags, keys that are missing."""
        path: Path = ()
        for element in loc:
            if (*path, element) in self.lines:
                path = (*path, element)
        return path


class _Refused(Exception):
    def __init__(self, mark: yaml.Mark | None, why: str) -> None:
        super().__init__(why)
        self.problem = Problem(mark.line + 1 if mark else 1, why)


class _Loader(yaml.SafeLoader):
    """Composes nodes down to a bounded depth, resolving scalars by YAML 1.2's core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the loader's own table, filled below

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; raises when it lies too deep."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _Refused(
                parent.start_mark if parent else None, f"nested deeper than {DEPTH_MAX} levels"
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_TAG = "tag:yaml.org,2002:"
_CORE: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _text(text: str) -> str:
    text.encode()  # half of a surrogate pair, from an escape, is no text
    return text


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": _bool,
    _TAG + "int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    _TAG + "float": _float,
    _TAG + "str": _text,
}


def read_yaml(text: str) -> Located:
    """Read one YAML document; what is wrong with it is in `problems`, nothing is raised."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Located(None, {(): 1}, [Problem(1, "the file is empty")])
        reading = _Reading()
        data = reading.convert(node, ())
        return Located(data, reading.lines, reading.problems, frozenset(reading.unreadable))
    except _Refused as refused:
        return Located(None, {(): 1}, [refused.problem])
    except yaml.MarkedYAMLError as error:
        return Located(None, {(): 1}, [_syntax_problem(error)])
    except (ValueError, OverflowError):  # escapes and versions beyond all bounds
        line = loader.line + 1 if loader else 1
        return Located(None, {(): 1}, [Problem(line, "not valid YAML: it cannot be read")])
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Located(
            None, {(): 1}, [Problem(line, f"the character {_code(error)} is not allowed")]
        )


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = error.problem or "it cannot be read"
    if "another document" in what:
        return Problem(mark.line + 1 if mark else 1, "a second document begins; write one per file")
    if "'\\t'" in what:
        what = "a tab stands where YAML wants spaces"
    began = error.context_mark
    if error.context and began is not None and (mark is None or began.line != mark.line):
        what += f" {error.context} from line {began.line + 1} on"
    return Problem(mark.line + 1 if mark else 1, f"not valid YAML: {what}")


def _code(error: yaml.reader.ReaderError) -> str:
    character = error.character
    return f"U+{character if isinstance(character, int) else ord(character[0]):04X}"


class _Reading:
    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self.unreadable: set[Path] = set()
        self._nodes = 0

    def convert(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _Refused(node.start_mark, f"more than {NODES_MAX} values, aliases expanded")
        if len(path) > DEPTH_MAX:
            raise _Refused(node.start_mark, f"nested deeper than {DEPTH_MAX} levels")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except ValueError:
                self._problem(node, f"{dotted(path) or 'the file'} has a value that cannot be read")
        else:
            self._problem(node, f"the tag {node.tag.replace(_TAG, '!!')[:60]} is not supported")
        self.unreadable.add(path)
        return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._problem(key_node, f"a key of {dotted(path) or 'the file'} is not text")
                continue
            try:
                key = _text(key_node.value)
            except ValueError:
                self._problem(key_node, f"a key of {dotted(path) or 'the file'} is not text")
                continue
            here = (*path, key)
            if key in data:
                first = self.lines[here]
                self._problem(key_node, f"the key {dotted(here)} is there twice, see line {first}")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            data[key] = self.convert(value_node, here)
        return data

    def _problem(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, message))


def dotted(path: Path) -> str:
    """A path as people write it: `rollout.steps[0].share`."""
    text = ""
    for element in path:
        if isinstance(element, int):
            text += f"[{element}]"
        else:
            text += f".{element}" if text else element
    return text
