"""Published bias benchmarks in the user's own files: never fetched, and kept as suites alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fairlead.domain.errors import InvalidInput
from fairlead.evaluation.cases import Suite
from fairlead.evaluation.stereotypes import Benchmark, bbq_suite, crows_suite

if TYPE_CHECKING:
    from fairlead.manifest.bias import Scores


class NotThere(InvalidInput):
    """The files of a benchmark are not where they are said to be."""


class Loaded(NamedTuple):
    """A benchmark's chosen items, or why there are none."""

    benchmark: Benchmark
    suite: Suite | None
    missing: str = ""


def bbq_files(path: Path) -> dict[str, bytes]:
    """BBQ's files in a folder, or the one file, by name; raises NotThere."""
    if path.is_file():
        return {path.name: read(path)}
    found = sorted(path.glob("*.jsonl")) if path.is_dir() else []
    if not found:
        raise NotThere(f"{path}: no folder with BBQ's files (*.jsonl)")
    return {each.name: read(each) for each in found}


def read(path: Path) -> bytes:
    """A file; raises NotThere."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotThere(f"{path}: {error.strerror}") from None


def loaded(scores: Scores) -> list[Loaded]:
    """What a manifest declares: files that are not there are said to be, and no mistake.

    Raises InvalidInput for files that are none of the benchmark.
    """
    found: list[Loaded] = []
    if (bbq := scores.bbq) is not None:
        found.append(_loaded("bbq", lambda: bbq_suite(bbq_files(bbq)), scores.items))
    if (crows := scores.crows) is not None:
        found.append(_loaded("crows", lambda: crows_suite(crows.name, read(crows)), scores.items))
    return found


def _loaded(benchmark: Benchmark, suite_of: Callable[[], Suite], items: int) -> Loaded:
    try:
        return Loaded(benchmark, Suite(suite_of().sample(items)))
    except NotThere as error:
        then = "put the file there and `fairlead ship` the manifest again"
        return Loaded(benchmark, None, f"{error.one_line}; {then}"[:300])
