"""From a file to a checked manifest, or to one error that lists every mistake."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fairlead.domain.errors import ManifestError
from fairlead.manifest.lines import BYTES_MAX, Problem, read_yaml
from fairlead.manifest.models import Manifest
from fairlead.manifest.problems import problems_of

PROBLEMS_MAX = 50


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest; its paths are relative to the file's folder.

    Raises ManifestError, with one line `path:line: what is wrong` for each mistake in it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: there is no such file", hint="`fairlead init` writes one to start from"
        ) from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > BYTES_MAX:
        raise ManifestError(f"{path}: larger than {BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _failed(path, [Problem(line, "not UTF-8 text; save the file as UTF-8")]) from None
    return parse_manifest(text, path)


def parse_manifest(text: str, path: Path) -> Manifest:
    """Check a manifest's text as if it lay at `path`, which need not exist.

    Files that it names must be there, relative to the folder of `path`. Raises ManifestError.
    """
    if len(text) > BYTES_MAX:
        raise ManifestError(f"{path}: larger than {BYTES_MAX} bytes")
    located = read_yaml(text)
    problems = list(located.problems)
    if located.data is None and problems:
        raise _failed(path, problems)
    try:
        manifest = Manifest.model_validate(located.data, context={"base": path.parent})
    except ValidationError as error:
        problems += problems_of(error.errors(include_url=False), located)
        raise _failed(path, problems) from None
    if problems:
        raise _failed(path, problems)
    return manifest


def _failed(path: Path, problems: list[Problem]) -> ManifestError:
    lines = [f"{path}:{line}: {message}" for line, message in sorted(set(problems))]
    if len(lines) > PROBLEMS_MAX:
        lines[PROBLEMS_MAX:] = [f"{path}: and {len(lines) - PROBLEMS_MAX} more"]
    return ManifestError("\n".join(lines))
