"""How vLLM's environment is set up, without setting it up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.vllm import environment


def test_packages_come_from_where_pip_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "https://one.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example/s https://three.example/s")
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/wheels")
    given = environment.sources()
    assert sorted(zip(given[::2], given[1::2], strict=True)) == [
        ("--default-index", "https://one.example/simple"),
        ("--extra-index-url", "https://three.example/s"),
        ("--extra-index-url", "https://two.example/s"),
        ("--find-links", "/some/wheels"),
    ]
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://four.example/simple")
    assert environment.sources() == [], "uv's own settings are for uv"


def test_a_machine_that_cannot_have_it_is_told_why_and_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "cache" / "vllm"
    monkeypatch.setenv(environment.VARIABLE, str(where))
    full = shutil.disk_usage("/")._replace(free=1_000_000_000)
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: full)
    assert environment.main() == environment.CANNOT
    assert "1.0 GB left, and 4 GB are needed" in capsys.readouterr().err
    monkeypatch.setattr(environment.platform, "machine", lambda: "aarch64")
    assert environment.main() == environment.CANNOT
    assert "has a wheel for Linux on x86-64, not linux aarch64" in capsys.readouterr().err
    assert not where.parent.exists()


def test_an_index_without_the_packages_is_no_crash_and_leaves_nothing_that_looks_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index").mkdir()
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "vllm"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    assert environment.main() == environment.CANNOT
    assert "vLLM cannot be set up here: packages" in capfd.readouterr().err
    assert not environment.is_ready(tmp_path / "vllm")
