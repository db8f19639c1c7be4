"""What a scrape says, for tests to look at."""

from __future__ import annotations

import re
import shutil
import subprocess

PROMTOOL = shutil.which("promtool", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MISSING = "there is no promtool here (apt-get install prometheus)"
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_PAIR = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str) -> dict[Sample, float]:
    """Values by name and labels; fails for a series that is there twice."""
    found: dict[Sample, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match is not None, line
        key = (match[1], frozenset(_PAIR.findall(match[2] or "")))
        assert key not in found, line
        found[key] = float(match[3])
    return found


def value(text: str, name: str, /, **labels: str) -> float | None:
    """The value of the one series with this name that has these labels, among others."""
    wanted = set(labels.items())
    values = [v for (n, pairs), v in samples(text).items() if n == name and wanted <= pairs]
    assert len(values) <= 1, f"{name} {labels}: {len(values)} series"
    return values[0] if values else None


def names(text: str) -> set[str]:
    """Names of all series."""
    return {name for name, _ in samples(text)}


def lint(text: str) -> str:
    """What promtool has to say of it; empty when nothing."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30
    )
    return (done.stdout + done.stderr).decode()
