"""The modules that a wheel may hold compiled (`FAIRLEAD_COMPILE=1`) are such that they can be.

What mypyc would silently do otherwise, and what would break only on the way to some rare request,
is looked for beforehand. `make test-compiled` runs this file, and the tests round the gateway, on
them compiled.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import fairlead.gateway
import fairlead.observer
import fairlead.wire
from fairlead.app.state import StatePaths
from fairlead.cli import doctor

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fairlead"
COMPILED = os.environ.get("FAIRLEAD_COMPILED", "")
"""The folder of the compiled package, where that is what is tested."""
SUFFIX = ".so" if COMPILED else ".py"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
LISTED: list[str] = WHEEL["hooks"]["custom"]["modules"]
NAMES = {"fairlead." + name.removesuffix(".py").replace("/", "."): name for name in LISTED}


def _classes(module: ModuleType) -> Iterator[type]:
    """Those that are defined in it."""
    for _, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__ == module.__name__:
            yield found


def test_the_list_is_in_order_and_names_modules_that_there_are() -> None:
    assert sorted(set(LISTED)) == LISTED
    assert [name for name in LISTED if not (SOURCE / name).is_file()] == []


@pytest.mark.parametrize("name", LISTED)
def test_nothing_stands_at_a_compiled_class_that_the_compiler_would_drop(name: str) -> None:
    """`class Known(msgspec.Struct, frozen=True)` would no longer be frozen, without a word."""
    for node in ast.walk(ast.parse((SOURCE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            given = [ast.unparse(word.value) for word in node.keywords]
            given += [ast.unparse(one) for one in node.decorator_list]
            assert not given, f"{node.name} ({', '.join(given)}) needs a module that is not listed"


@pytest.mark.parametrize("name", NAMES)
def test_no_compiled_class_is_a_struct(name: str) -> None:
    """What msgspec makes of a class depends on how it is defined."""
    found = [one for one in _classes(importlib.import_module(name)) if _is_struct(one)]
    assert found == []


def _is_struct(one: type) -> bool:
    return issubclass(one, msgspec.Struct)


@pytest.mark.parametrize("room", [fairlead.gateway, fairlead.observer, fairlead.wire])
def test_no_interpreted_class_descends_from_a_compiled_one(room: ModuleType) -> None:
    """Such a class can be defined, but no instance of it can be made.

    A protocol may, since nobody makes instances of it.
    """
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        if found.name in NAMES:
            continue
        for one in _classes(importlib.import_module(found.name)):
            above = [base for base in one.__mro__[1:] if base.__module__ in NAMES]
            assert not above or getattr(one, "_is_protocol", False), f"{one}: {above}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_tested_is_compiled_or_not_as_it_should_be(name: str) -> None:
    file = Path(importlib.import_module(name).__file__ or "")
    assert file.suffix == SUFFIX
    assert file.is_relative_to(COMPILED or SOURCE)


def test_so_is_what_tests_start_and_what_the_doctor_says() -> None:
    code = "import fairlead.gateway.worker as worker; print(worker.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).suffix == SUFFIX
    (found,) = doctor._gateway(StatePaths(Path("nowhere")))
    assert ("compiled" in found.detail.split("(")[0]) is bool(COMPILED)


def test_the_compiler_is_the_one_that_checks_the_types() -> None:
    """What is compiled is what was tested."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (version,) = (one["version"] for one in locked if one["name"] == "mypy")
    assert WHEEL["hooks"]["custom"]["compiler"] == f"mypy=={version}"
