"""Free memory goes back to the system while a process runs."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys, time
from pathlib import Path
from fairlead.app.heap import keep_trimmed

def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20

held = [bytes(60_000) for _ in range(1_000)]
last = bytes(60_000)  # What stays keeps all below it, for the C library.
del held
before = resident_mb()
if sys.argv[1] == "trim":
    keep_trimmed(every_s=0.05)
deadline = time.monotonic() + float(sys.argv[2])
while resident_mb() > before - 40 and time.monotonic() < deadline:
    time.sleep(0.02)
print(resident_mb() < before - 40)
"""


def _gives_back(way: str, wait_s: float) -> bool:
    command = [sys.executable, "-c", _SCRIPT, way, str(wait_s)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() == "True"


def test_what_is_free_below_what_is_in_use_is_given_back() -> None:
    assert not _gives_back("leave", 0.5)
    assert _gives_back("trim", 20.0)


_LARGE = """
import sys, threading
from pathlib import Path
from fairlead.app.heap import keep_trimmed

def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20

if sys.argv[1] == "trim":
    keep_trimmed(every_s=3600.0)

def work():
    global grown
    first = bytes(b"x" * (24 * 2**20))  # The library learns this size when it is freed ...
    del first
    before = resident_mb()
    for _ in range(20):
        held = b"x" * (6 * 2**20)
        del held
    grown = resident_mb() - before  # ... and keeps blocks below it.

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(grown)
"""


def test_a_large_block_goes_back_when_it_is_freed_also_in_a_thread() -> None:
    def grown(way: str) -> float:
        command = [sys.executable, "-c", _LARGE, way]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return float(done.stdout)

    assert grown("leave") > 5.0
    assert grown("trim") < 1.0
