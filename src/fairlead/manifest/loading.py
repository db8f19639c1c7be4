"""From a file to a checked manifest, or to one error that lists every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fairlead.domain.errors import ManifestError
from fairlead.manifest.lines import BYTES_MAX, Problem, read_yaml
from fairlead.manifest.models import Manifest
from fairlead.manifest.problems import problems_of
from fairlead.manifest.schema import manifest_vocabulary
from fairlead.manifest.vocabulary import Vocabulary

PROBLEMS_MAX = 50
M = TypeVar("M", bound=BaseModel)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest; its paths are relative to the file's folder.

    Raises ManifestError, with one line `path:line: what is wrong` for each mistake in it.
    """
    return parse_manifest(read_text(path, hint="`fairlead init` writes one to start from"), path)


def parse_manifest(text: str, path: Path) -> Manifest:
    """Check a manifest's text as if it lay at `path`, which need not exist.

    Files that it names must be there, relative to the folder of `path`. Raises ManifestError.
    """
    return check(text, path, Manifest, manifest_vocabulary())


def read_text(path: Path, *, hint: str | None = None) -> str:
    """A file that people write, bounded and as UTF-8; raises ManifestError.

    Args:
        hint: What to do when there is no such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such file", hint=hint) from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > BYTES_MAX:
        raise ManifestError(f"{path}: larger than {BYTES_MAX} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise failed(path, [Problem(line, "not UTF-8 text; save the file as UTF-8")]) from None


def check(text: str, path: Path, model: type[M], vocabulary: Vocabulary) -> M:
    """YAML text as a model; raises ManifestError."""
    if len(text) > BYTES_MAX:
        raise ManifestError(f"{path}: larger than {BYTES_MAX} bytes")
    located = read_yaml(text)
    problems = list(located.problems)
    if located.data is None and problems:
        raise failed(path, problems)
    try:
        checked = model.model_validate(located.data, context={"base": path.parent})
    except ValidationError as error:
        problems += problems_of(error.errors(include_url=False), located, vocabulary)
        raise failed(path, problems) from None
    if problems:
        raise failed(path, problems)
    return checked


def failed(path: Path, problems: list[Problem]) -> ManifestError:
    """One error that lists all problems, by line."""
    lines = [f"{path}:{line}: {message}" for line, message in sorted(set(problems))]
    if len(lines) > PROBLEMS_MAX:
        lines[PROBLEMS_MAX:] = [f"{path}: and {len(lines) - PROBLEMS_MAX} more"]
    return ManifestError("\n".join(lines))
