"""A tiny model with random weights, and llama.cpp server processes that run it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TINY = Path(__file__).with_name("tiny_gguf.py")
Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes a tiny model with this many tokens of context."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("model")

    def write(context: int = 512) -> Path:
        path: Path = module.write(folder / f"tiny-{context}.gguf", context=context)
        return path

    return write


class Running:
    """A llama.cpp server process of ours, started as a target would."""

    def __init__(
        self, folder: Path, model: Path, parent: int, **settings: int | bool | str
    ) -> None:
        self.ready = folder / "ready"
        self.log = folder / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "fairlead.engines.llamacpp",
                    "--model", str(model), "--alias", "tiny",
                    "--settings", json.dumps(settings),
                    "--ready-file", str(self.ready), "--parent", str(parent),
                ],
                stdout=output,
                stderr=output,
            )  # fmt: skip

    def wait_ready(self) -> str:
        """Its base URL, as soon as it is there."""
        end = time.monotonic() + 30
        while not self.ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        return self.ready.read_text().strip()

    def end(self) -> None:
        """Leave no process."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def run_llama(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def run(model: Path, *, parent: int = 0, **settings: int | bool | str) -> Running:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Running(folder, model, parent, **settings))
        return started[-1]

    yield run
    for running in started:
        running.end()
