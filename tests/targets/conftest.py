"""A tiny model, and launches of replicas: real llama.cpp ones and small stand-alone servers."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.domain.release import Blob, Engine, Release, WeightsModel
from fairlead.domain.replica import Launch, Wanted
from fairlead.engines.launching import launch

TINY = Path(__file__).parents[1] / "engines" / "tiny_gguf.py"

# A replica that answers at once, for tests of the target that need no engine.
SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"choices": [{"text": "ok"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *parts):
        pass
print("serving", sorted(os.environ), flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"http://127.0.0.1:{server.server_port}\\n")
os.rename(sys.argv[1] + ".part", sys.argv[1])
server.serve_forever()
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("tiny_gguf", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: Path = module.write(tmp_path_factory.mktemp("model") / "tiny.gguf")
    return path


@pytest.fixture
def llama_launch() -> Callable[[Path], Launch]:
    """The real launch of a model file by the engine llama.cpp."""

    def build(model: Path) -> Launch:
        blob = Blob(digest="sha256:" + "0" * 64, size=1, name="tiny.gguf")
        release = Release(
            model=WeightsModel(format="gguf", files=(blob,)),
            engine=Engine(kind="llama.cpp", settings={"context": 512, "slots": 2}),
        )
        return launch(release, [model])

    return build


def python_launch(code: str, *, start_timeout_s: float = 20.0) -> Launch:
    """A replica that runs this code, with the ready file as its first argument."""
    return Launch(
        argv=(sys.executable, "-S", "-c", code, "{ready_file}", "{supervisor_pid}"),
        probe_body={"prompt": "ok"},
        start_timeout_s=start_timeout_s,
    )


@pytest.fixture
def server_launch() -> Launch:
    return python_launch(SERVER)


@pytest.fixture
def run_python() -> Callable[..., Launch]:
    return python_launch


@pytest.fixture
def wish() -> Callable[..., Wanted]:
    def build(launch: Launch, count: int = 1, engine: str = "a") -> Wanted:
        return Wanted(engine_digest="sha256:" + engine * 64, count=count, launch=launch)

    return build


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process has ended (a zombie has)."""

    def check(pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False
        return stat.rpartition(")")[2].split()[0] in "ZX"

    return check
