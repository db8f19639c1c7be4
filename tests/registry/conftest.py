from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.release import Engine, Prompt
from fairlead.registry import BuildInput, Registry
from registry.hub_server import HubServer
from registry.model_writer import gguf, write

LLAMA = Engine(kind="llama.cpp", settings={"n_ctx": 128})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "models" / "m.gguf", gguf())


@pytest.fixture
def given(model: Path) -> Callable[..., BuildInput]:
    """Makes a build's input: that of a small GGUF file, except for what is said otherwise."""

    def make(**changes: Any) -> BuildInput:
        fields: dict[str, Any] = {
            "model": str(model),
            "engine": LLAMA,
            "prompt": Prompt(),
            "sampling": {"temperature": 0},
            "name": "a",
            "service": "bank",
        }
        return BuildInput(
            **{**fields, **{k: str(v) if k == "model" else v for k, v in changes.items()}}
        )

    return make


@pytest.fixture
def files_in(root: Path) -> Callable[[], dict[str, bytes]]:
    """All files of the registry with their content, lock files left out."""

    def read() -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not re.search(r"lock$", path.name)
        }

    return read


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A server that answers like the Hub, on a free loopback port."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
