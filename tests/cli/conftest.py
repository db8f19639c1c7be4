"""The command line in this process, on an installation that the tests of a file share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.simulated_installation import BANKING, Done, Installation, Run
from control.simulated_world import build_releases
from fairlead.app.state import StatePaths
from fairlead.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `fairlead ARGUMENTS` in this process, through its entry point."""
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.delenv("FAIRLEAD_STATE", raising=False)
    monkeypatch.delenv("FAIRLEAD_API_KEY", raising=False)

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["fairlead", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int) or code is None
        assert "Traceback" not in written.err + written.out
        return Done(code or 0, written.out, written.err)

    return call


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A registry with releases a to d; only read."""
    root = tmp_path_factory.mktemp("built") / "registry"
    return root, build_releases(root, BANKING / "models")


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, built: tuple[Path, dict[str, str]]
) -> Iterator[Installation]:
    """One for all tests of a file; each uses services of its own."""
    root = tmp_path_factory.mktemp("installation") / "state"
    StatePaths(root).create()
    shutil.copytree(built[0], root / "registry")
    made = Installation(root, built[1])
    made.start()
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest of the service `shop`, its model and its suite."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    shutil.copy(BANKING / "models" / "b.gguf", folder / "models")
    rows = [f"say {number},{number}" for number in range(6)]
    (folder / "suite.csv").write_text("\n".join(["input,expected", *rows]) + "\n")
    (folder / "fairlead.yaml").write_text(MANIFEST)
    monkeypatch.chdir(folder)
    return folder


MANIFEST = """\
service: shop
release:
  name: first
  model: models/b.gguf
  sampling: {temperature: 0}
gates:
  - {name: quality, suite: suite.csv, scorer: exact, minimum: 90%}
rollout:
  steps: [{share: 50%, requests: 10}]
  settle_seconds: 1
limits: {queue: 5}
"""
