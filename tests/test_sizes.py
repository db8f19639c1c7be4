"""Files and functions of the program stay so small that each can be read in one go.

More is worth another look: is it one thing? Split by meaning, never to satisfy a count; what is one
thing and longer stands below, with why.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fairlead"
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

LONGER_FUNCTIONS: dict[str, str] = {}


def _files() -> dict[str, int]:
    """Lines of each file, by its path."""
    return {
        str(path.relative_to(SOURCE)): len(path.read_text().splitlines())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def _functions() -> dict[str, int]:
    """Lines of each function, by its file and its name."""
    found: dict[str, int] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path.relative_to(SOURCE)} {node.name}"
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                found[name] = max(lines, found.get(name, 0))
    return found


@pytest.mark.parametrize(
    ("lines", "most", "longer"),
    [
        pytest.param(_files(), FILE_LINES_MAX, {}, id="files"),
        pytest.param(_functions(), FUNCTION_LINES_MAX, LONGER_FUNCTIONS, id="functions"),
    ],
)
def test_what_is_longer_than_it_should_be_is_known_and_says_why(
    lines: dict[str, int], most: int, longer: dict[str, str]
) -> None:
    assert {name: count for name, count in lines.items() if count > most} == {
        name: lines.get(name) for name in longer
    }
