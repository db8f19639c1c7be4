"""The line of every key of a TOML file, which `tomllib` does not tell.

The file is valid already, so that this needs to know only where a statement begins and ends;
headers and keys are read by `tomllib` itself.
"""

from __future__ import annotations

import tomllib
from typing import Any

from fairlead.manifest.lines import Path

_QUOTES = ('"""', "'''", '"', "'")


def toml_lines(text: str) -> dict[Path, int]:
    """The line of each table and key; a value in an inline table has that of its statement."""
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    counts: dict[Path, int] = {}
    position, line = 0, 1
    while position < len(text):
        end = _end_of_statement(text, position)
        statement = text[position:end]
        begin = line + statement[: len(statement) - len(statement.lstrip())].count("\n")
        content = statement.strip()
        if content.startswith("["):
            table = _table(content, counts)
            _note(lines, table, begin)
        elif content and not content.startswith("#"):
            _note(lines, (*table, *_key(content)), begin)
        line += statement.count("\n")
        position = end
    return lines


def _note(lines: dict[Path, int], path: Path, line: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _end_of_statement(text: str, position: int) -> int:
    """Just after the line break that ends the statement which begins here."""
    depth, is_header = 0, text[position:].lstrip(" \t")[:1] == "["
    while position < len(text):
        character = text[position]
        if character == "#":
            position = text.find("\n", position)
            if position < 0:
                return len(text)
            continue
        quote = next((q for q in _QUOTES if text.startswith(q, position)), None)
        if quote is not None:
            position = _end_of_string(text, position + len(quote), quote)
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "\n" and (depth <= 0 or is_header):
            return position + 1
        position += 1
    return len(text)


def _end_of_string(text: str, position: int, quote: str) -> int:
    while position < len(text):
        if text[position] == "\\" and quote[0] == '"':
            position += 2
        elif text.startswith(quote, position):
            position += len(quote)
            # Up to two more quotation marks may belong to the end of a long string.
            while len(quote) == 3 and text[position : position + 1] == quote[0]:
                position += 1
            return position
        else:
            position += 1
    return len(text)


def _table(header: str, counts: dict[Path, int]) -> Path:
    """The path of `[a.b]` or `[[a.b]]`; items of an array of tables are numbered."""
    try:
        path = _walk(tomllib.loads(header))
    except tomllib.TOMLDecodeError:
        return ()
    numbered: Path = ()
    for length, element in enumerate(path, start=1):
        numbered = (*numbered, element)
        is_last = length == len(path)
        if is_last and header.startswith("[["):
            counts[path] = counts.get(path, -1) + 1
        if path[:length] in counts:
            numbered = (*numbered, counts[path[:length]])
    return numbered


def _key(statement: str) -> Path:
    position = 0
    while position < len(statement) and statement[position] != "=":
        quote = next((q for q in ('"', "'") if statement[position] == q), None)
        position = _end_of_string(statement, position + 1, quote) if quote else position + 1
    try:
        return _walk(tomllib.loads(f"{statement[:position]}= 0"))
    except tomllib.TOMLDecodeError:
        return ()


def _walk(data: Any) -> Path:
    """The only path through nested tables of one key each."""
    path: Path = ()
    while True:
        if isinstance(data, list):
            data = data[0]
        if not isinstance(data, dict) or not data:
            return path
        [(key, data)] = data.items()
        path = (*path, key)
