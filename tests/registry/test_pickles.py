"""Formats that can run code when loaded are refused by name and by content, and never loaded."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.domain.errors import InvalidInput, ModelFileRefused
from fairlead.registry import BuildInput, Registry
from fairlead.registry.model_files import check_name
from registry.model_writer import gguf, safetensors, write


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


def _tarred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("../../escape")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "model.bin",
        "m.pt",
        "m.pth",
        "m.ckpt",
        "m.pkl",
        "m.joblib",
        "m.npz",
        "m.h5",
        "M.PT",
        "m.nemo",
    ],
)
def test_a_pickle_is_refused_by_its_name(
    name: str, tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    path = write(tmp_path / name, pickle.dumps({"a": 1}))
    with pytest.raises(ModelFileRefused, match="hold pickles, which can run code") as caught:
        registry.build(given(model=path), now=1.0)
    assert "GGUF or safetensors" in str(caught.value.hint)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["m.gguf", "m.safetensors"])
def test_a_pickle_under_another_name_is_refused_and_not_run(
    name: str,
    protocol: int,
    tmp_path: Path,
    registry: Registry,
    given: Callable[..., BuildInput],
    files_in: Callable[[], dict[str, bytes]],
) -> None:
    mark = tmp_path / "ran"
    path = write(tmp_path / name, pickle.dumps(Bomb(mark), protocol))
    before = files_in()
    with pytest.raises(ModelFileRefused, match="pickle"):
        registry.build(given(model=path), now=1.0)
    assert not mark.exists()
    assert files_in() == before


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_zipped(pickle.dumps(1)), "with a pickle in it"),
        (_tarred(b"x"), "a tar archive"),
        (gzip.compress(b"x", mtime=0), "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_an_archive_is_refused_for_what_it_is(
    content: bytes,
    what: str,
    tmp_path: Path,
    registry: Registry,
    given: Callable[..., BuildInput],
) -> None:
    path = write(tmp_path / "m.gguf", content)
    with pytest.raises(ModelFileRefused, match=what):
        registry.build(given(model=path), now=1.0)


def test_a_pickle_beside_safetensors_is_left_out_and_one_posing_as_json_is_refused(
    tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    folder = tmp_path / "model"
    write(folder / "model.safetensors", safetensors())
    write(folder / "training_args.bin", pickle.dumps(1))
    write(folder / "config.json", b"{}")
    entry = registry.build(given(model=folder), now=1.0)
    assert [path.name for path in registry.weights(entry.digest)] == [
        "model.safetensors",
        "config.json",
    ]
    write(folder / "tokenizer.json", pickle.dumps(1))
    with pytest.raises(ModelFileRefused, match=r"tokenizer\.json: is a pickle"):
        registry.build(given(model=folder), now=1.0)


def test_a_folder_of_pickles_only_is_refused(
    tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    write(tmp_path / "model" / "pytorch_model.bin", pickle.dumps(1))
    with pytest.raises(ModelFileRefused, match=r"pytorch_model\.bin and the like hold pickles"):
        registry.build(given(model=tmp_path / "model"), now=1.0)


def test_a_safetensors_file_whose_length_looks_like_a_pickle_is_accepted(
    tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    header = b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'
    raw = header + b" " * (0x0280 - len(header))
    data = safetensors(raw=raw)
    assert data[0] == 0x80
    assert data[1] == 2
    assert registry.build(given(model=write(tmp_path / "m.safetensors", data)), now=1.0)


@pytest.mark.parametrize(
    "name", ["../m.gguf", "a/b.gguf", ".gguf", "m..gguf", "m\n.gguf", "a" * 300]
)
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ModelFileRefused):
        check_name(name)


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"a":' + b"[" * 100_000, b"\xff"])
def test_a_companion_that_is_no_json_object_is_refused(
    content: bytes, tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    write(tmp_path / "model" / "model.safetensors", safetensors())
    write(tmp_path / "model" / "config.json", content)
    with pytest.raises(ModelFileRefused, match="is not a JSON object"):
        registry.build(given(model=tmp_path / "model"), now=1.0)


def test_of_several_models_in_a_folder_one_has_to_be_named(
    tmp_path: Path, registry: Registry, given: Callable[..., BuildInput]
) -> None:
    for name in ("a.gguf", "b.gguf"):
        write(tmp_path / "model" / name, gguf())
    with pytest.raises(InvalidInput, match=r"several models: a\.gguf, b\.gguf"):
        registry.build(given(model=tmp_path / "model"), now=1.0)
