"""From another gateway's file to a gateway file that loads, and what is lost on the way."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from fairlead.domain.errors import ManifestError
from fairlead.manifest.gateway_file.loading import parse_gateway_file
from fairlead.manifest.gateway_file.models import GatewayFile
from fairlead.manifest.importing.draft import Draft, as_yaml
from fairlead.manifest.importing.litellm import read_litellm
from fairlead.manifest.importing.providers import DEFAULT_KEYS
from fairlead.manifest.importing.section import Loss, Losses
from fairlead.manifest.importing.tensorzero import read_tensorzero, template_paths
from fairlead.manifest.importing.toml_lines import toml_lines
from fairlead.manifest.lines import Problem, read_yaml
from fairlead.manifest.loading import failed, read_text

Kind = Literal["litellm", "tensorzero"]
TEMPLATE_BYTES_MAX = 64 * 1024


class Imported(NamedTuple):
    """A gateway file, and what it does not hold.

    Attributes:
        text: The file.
        file: The same, checked.
        losses: What could not be carried over, or comes out differently, by line.
        wants_key: Clients need the key whose digest is in the file.
    """

    text: str
    file: GatewayFile
    losses: list[Loss]
    wants_key: bool


def import_gateway_file(kind: Kind, path: Path, key_digest: Callable[[], str]) -> Imported:
    """Read a file of this kind; raises ManifestError when nothing can be made of it.

    Args:
        key_digest: The digest of a key for the clients, if the other gateway wanted one.
    """
    text = read_text(path)
    try:
        draft = _litellm(text, path) if kind == "litellm" else _tensorzero(text, path)
    except ManifestError as error:
        raise ManifestError(_at(path, error.message)) from None
    losses = draft.losses.sorted
    if not draft.services:
        lines = [f"{path}:{loss.line}: {loss.what}: {loss.why}" for loss in losses]
        raise ManifestError("\n".join([f"{path}: no service could be carried over", *lines]))
    document = draft.document(key_digest() if draft.wants_key else "")
    made = _head(kind, path, len(losses)) + as_yaml(document)
    return Imported(made, parse_gateway_file(made, path.parent / "gateway.yaml"), losses,
                    draft.wants_key)  # fmt: skip


def _litellm(text: str, path: Path) -> Draft:
    located = read_yaml(text)
    if located.problems:
        raise failed(path, located.problems)
    if not isinstance(located.data, dict):
        raise ManifestError("there is no model_list: is it a LiteLLM config.yaml?")
    return read_litellm(located, Losses(located.lines), _reserved(text))


def _tensorzero(text: str, path: Path) -> Draft:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(where[1]) if where else text.count("\n") + 1
        what = str(error).partition(" (at ")[0]
        raise failed(path, [Problem(line, f"not valid TOML: {what}")]) from None
    except RecursionError:
        raise ManifestError("nested too deep") from None
    templates = {name: _template(path.parent, name) for name in template_paths(data)}
    found = {name: content for name, content in templates.items() if content is not None}
    return read_tensorzero(data, Losses(toml_lines(text)), _reserved(text), found)


def _template(folder: Path, name: str) -> str | None:
    """A template's text; None when it is not a text file below the folder."""
    try:
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()) or not place.is_file():
            return None
        with place.open("rb") as file:
            content = file.read(TEMPLATE_BYTES_MAX + 1)
        return content.decode() if len(content) <= TEMPLATE_BYTES_MAX else None
    except (OSError, ValueError):
        return None


def _reserved(text: str) -> frozenset[str]:
    return DEFAULT_KEYS.union(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))


def _at(path: Path, message: str) -> str:
    return message if message.startswith(str(path)) else f"{path}: {message}"


def _head(kind: Kind, path: Path, lost: int) -> str:
    lines = "1 line was" if lost == 1 else f"{lost} lines were"
    return (
        f"# Made by `fairlead gateway import --from {kind} {ascii(path.name)[1:-1]}`;\n"
        f"# {lines} not carried over as they are.\n"
    )
