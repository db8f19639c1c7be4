"""Reading suites from YAML, JSONL and CSV files.

YAML holds a list of cases, JSONL one JSON object in each line, CSV a header line and one case in
each row. YAML is for suites written by hand; it is read slowly, hence up to a moderate size.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import msgspec

from fairlead.domain.decoding import convert, decode_json
from fairlead.domain.errors import InvalidInput
from fairlead.evaluation.cases import CASES_MAX, Case, Suite, make_case
from fairlead.evaluation.yaml_items import DEPTH_MAX, YamlMistake, yaml_items

BYTES_MAX = 64 * 1024 * 1024
YAML_BYTES_MAX = 2 * 1024 * 1024
PROBLEMS_MAX = 20
NAME_CHARS_MAX = 200
TAGS_MAX = 20
ROLES = ("system", "developer", "user", "assistant", "tool")

__all__ = ["Case", "Columns", "Suite", "SuiteFormat", "parse_suite"]

SuiteFormat = Literal["yaml", "jsonl", "csv"]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of a suite's columns (CSV) or keys (YAML, JSONL).

    `input` must be there. Each other one, when None, is the column of its own name if there is one.
    In CSV, tags are separated by `;`.
    """

    input: str = "input"
    expected: str | None = None
    id: str | None = None
    tags: str | None = None


class _Row(NamedTuple):
    line: int
    values: dict[str, Any]


class _Problem(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def parse_suite(
    data: bytes,
    format: SuiteFormat,
    columns: Columns | Mapping[str, str] | None = None,
    *,
    name: str = "suite",
) -> Suite:
    """Parse a suite's file.

    `columns` may be a mapping with the fields of `Columns`; `name` stands for the file in messages.
    Raises InvalidInput with one line `name:line: message` for each mistake, up to a number of them.
    """
    if not isinstance(columns, Columns):
        columns = convert(dict(columns or {}), Columns)
    problems: list[_Problem] = []
    cases: list[Case] = []
    lines: dict[str, int] = {}
    try:
        for row in _rows(data, format, columns):
            try:
                case = _case(row, columns, strict=format == "yaml")
                key = case.id.rpartition(".")[0] or case.id
                if key in lines:
                    raise _Problem(row.line, f"the same case as in line {lines[key]}")
                lines[key] = row.line
                cases.append(case)
            except _Problem as problem:
                problems.append(problem)
                if len(problems) >= PROBLEMS_MAX:
                    break
            if len(cases) > CASES_MAX:
                raise _Problem(row.line, f"more than {CASES_MAX} cases")
    except _Problem as problem:
        problems.append(problem)
    if not problems and not cases:
        problems.append(_Problem(1, "there are no cases"))
    if problems:
        problems.sort(key=lambda problem: problem.line)
        raise InvalidInput("\n".join(f"{name}:{p.line}: {p.message}" for p in problems))
    return Suite(tuple(cases))


def _rows(data: bytes, format: SuiteFormat, columns: Columns) -> Iterator[_Row]:
    limit = YAML_BYTES_MAX if format == "yaml" else BYTES_MAX
    if len(data) > limit:
        hint = "; write large suites as JSONL" if format == "yaml" else ""
        raise _Problem(1, f"larger than {limit} bytes{hint}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Problem(line, "not UTF-8 text; save the file as UTF-8") from None
    if format == "csv":
        return _csv_rows(text, columns)
    return _jsonl_rows(text) if format == "jsonl" else _yaml_rows(text)


def _csv_rows(text: str, columns: Columns) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        for column in (columns.input, columns.expected, columns.id, columns.tags):
            if column is not None and column not in header:
                raise _Problem(1, f'there is no column "{column}"{_near(column, header)}')
        if len(set(header)) != len(header):
            raise _Problem(1, "two columns have the same name")
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise _Problem(line, f"{len(cells)} cells in a table of {len(header)} columns")
            if cells:
                yield _Row(line, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise _Problem(reader.line_num, f"not valid CSV: {error}") from None


def _jsonl_rows(text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = decode_json(line.encode(), object)
        except msgspec.DecodeError as error:
            raise _Problem(number, f"not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise _Problem(number, "must be a JSON object")
        yield _Row(number, values)


def _yaml_rows(text: str) -> Iterator[_Row]:
    try:
        for line, values in yaml_items(text):
            if not isinstance(values, dict):
                raise _Problem(line, "must be a mapping with the keys input and expected")
            yield _Row(line, values)
    except YamlMistake as mistake:
        raise _Problem(mistake.line, mistake.message) from None


def _case(row: _Row, columns: Columns, *, strict: bool) -> Case:
    values = row.values
    names = {
        "expected": columns.expected or "expected",
        "id": columns.id or "id",
        "tags": columns.tags or "tags",
    }
    for wanted in (columns.input, columns.expected, columns.id, columns.tags):
        if wanted is not None and wanted not in values:
            raise _Problem(row.line, f'there is no "{wanted}"{_near(wanted, values)}')
    if strict:
        known = [columns.input, *names.values()]
        for key in values:
            if key not in known:
                raise _Problem(row.line, f'unknown key "{key}"{_near(str(key), known)}')
    expected = values.get(names["expected"])
    _check_json(row.line, expected)
    return make_case(
        _input(row.line, values[columns.input]),
        expected,
        name=_name(row.line, values.get(names["id"])),
        tags=_tags(row.line, values.get(names["tags"])),
    )


def _input(line: int, value: Any) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        if not value.strip():
            raise _Problem(line, "the input is empty")
        return value
    if not isinstance(value, list) or not value:
        raise _Problem(line, "the input must be text or a list of messages")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise _Problem(line, f"each message of the input needs a role: {', '.join(ROLES)}")
        if not isinstance(message.get("content"), (str, list)):
            raise _Problem(line, "each message of the input needs a content")
    _check_json(line, value)
    return value


def _name(line: int, value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > NAME_CHARS_MAX or not value.isprintable():
        raise _Problem(line, f"the id must be text of at most {NAME_CHARS_MAX} characters")
    return value


def _tags(line: int, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise _Problem(line, "the tags must be text or a list of texts")
    if len(value) > TAGS_MAX:
        raise _Problem(line, f"more than {TAGS_MAX} tags")
    return tuple(dict.fromkeys(value))


def _check_json(line: int, value: Any, depth: int = 0) -> None:
    """Refuse what JSON cannot hold: YAML knows dates, sets and numbers that are not finite."""
    if depth > DEPTH_MAX:
        raise _Problem(line, f"nested deeper than {DEPTH_MAX} levels")
    match value:
        case None | bool() | str():
            return
        case int() if abs(value) < 2**63:
            return
        case float() if math.isfinite(value):
            return
        case list():
            for item in value:
                _check_json(line, item, depth + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise _Problem(line, f"the key {key!r} is not text")
                _check_json(line, item, depth + 1)
        case _:
            kind = type(value).__name__
            raise _Problem(line, f"a value is not one that JSON has ({kind}); put it in quotes")


def _near(name: str, names: Iterable[Any]) -> str:
    found = get_close_matches(name, [str(other) for other in names], n=1, cutoff=0.6)
    return f' (did you mean "{found[0]}"?)' if found else ""
