"""What the documentation says is there: pages, links, commands, settings, endpoints."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from fairlead.cli.root import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`])fairlead ((?:[a-z]+ ?){1,2})", re.MULTILINE)
TARGET = re.compile(r"(?:^|[\s`])make ([a-z-]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_pages_are_what_the_code_says_now(generate: ModuleType) -> None:
    """A stale generated page fails; `make docs` writes them anew."""
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == page(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / link).exists(), link


def commands() -> dict[str, set[str]]:
    """Commands with their subcommands."""
    root = typer.main.get_command(app)
    return {
        name: set(getattr(command, "commands", {}))
        for name, command in root.commands.items()  # type: ignore[attr-defined]
    }


def shell_lines(text: str) -> str:
    """What a reader would type: indented or fenced blocks, and inline code."""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return "\n".join([*lines, *re.findall(r"`([^`]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_a_page_names_exists(page: Path) -> None:
    known = commands()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = shell_lines(page.read_text(encoding="utf-8"))
    for match in COMMAND.findall(text):
        first, *rest = match.split()
        assert first in known, match
        if known[first] and rest:
            assert rest[0] in known[first], match
    for target in TARGET.findall(text):
        assert target in targets, target


def test_every_command_is_described(generate: ModuleType) -> None:
    """No command and no option is without words."""
    page = generate.cli_page()
    for name, children in commands().items():
        for path in [f"{name} {child}" for child in children] or [name]:
            assert f"## `fairlead {path}`" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.split("|")[2].strip() == ""] == []


@pytest.mark.parametrize(("name", "at_least"), [("manifest.md", 50), ("gateway-file.md", 40)])
def test_every_setting_is_described(generate: ModuleType, name: str, at_least: int) -> None:
    rows = [line for line in generate.PAGES[name]().splitlines() if line.startswith("| `")]
    assert len(rows) > at_least
    assert [row for row in rows if row.rstrip(" |").endswith("|")] == []


def test_every_endpoint_is_described(generate: ModuleType) -> None:
    for path, methods in generate.api_document()["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert "200" in operation["responses"], (method, path)


def test_every_room_is_described_and_there_is_no_other() -> None:
    """Packages of the program, and those of the two largest ones."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `([a-z.]+)` \|", text, re.MULTILINE)
    source = ROOT / "src" / "fairlead"
    packages = [*source.glob("*/"), *source.glob("gateway/*/"), *source.glob("control/*/")]
    rooms = [
        ".".join(package.relative_to(source).parts)
        for package in packages
        if (package / "__init__.py").exists()
    ]
    assert sorted(described) == sorted(rooms)
