"""Processes of replicas: start them, know them again, signal them, see them end.

A process is known by its number and its identity: when it began, and on Linux in which boot. The
number alone may belong to a stranger after a restart of control.

A process is started behind a gate: a shell that waits for a word before it becomes the replica.
The word is given after the process has been written down. If control dies in between, the gate
closes and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
KEPT_PREFIXES = ("LC_", "PYTHON", "DYLD_", "CUDA_", "HIP_", "ROCR_")
GATE = 'cd "$1" && shift && read -r go && exec "$@" </dev/null'
HAS_PROC = Path("/proc/self/stat").exists()
DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD)


def replica_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The few variables that a replica needs; keys and tokens of this process stay here."""
    kept = {k: v for k, v in environ.items() if k in KEPT_VARIABLES or k.startswith(KEPT_PREFIXES)}
    return {**kept, **extra}


class Gate:
    """A process that waits to become the replica."""

    def __init__(self, pid: int, write_end: int) -> None:
        self.pid = pid
        self._write_end = write_end

    def open(self) -> None:
        """Let it become the replica."""
        # A broken pipe means that it ended already; its end is noticed elsewhere.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write_end, b"go\n")
        os.close(self._write_end)

    def shut(self) -> None:
        """Let it end without ever becoming the replica."""
        os.close(self._write_end)


def spawn(argv: Sequence[str], *, folder: Path, env: Mapping[str, str], log: Path) -> Gate:
    """Start a process in a session of its own, so that the terminal's Ctrl-C does not reach it.

    Its output is appended to `log`, its working folder is `folder`. Raises `OSError`.
    """
    read_end, write_end = os.pipe()
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", GATE, "replica", str(folder), *argv],
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read_end, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=DEFAULT_SIGNALS,
        )
    except OSError:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return Gate(pid, write_end)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> str | None:
    """What tells this process from others of the same number; None when it has ended."""
    if HAS_PROC:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # Fields 3 and 22 of proc(5): the state, and the start in ticks since the boot.
        return None if fields[0] in "ZX" else f"{_boot()} {fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def how_it_ended(pid: int, known: str) -> str | None:
    """None while the process runs; else how it ended, as far as this process can know."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # Started by an earlier control process; whoever is its parent now reaps it.
        return None if identity(pid) == known else "ended"
    if reaped == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def send(pid: int, known: str, number: signal.Signals) -> None:
    """Signal the process and those that it started; nothing happens when it is not the one."""
    if identity(pid) != known:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
