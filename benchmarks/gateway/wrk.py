"""wrk: as many plain completions as the proxy can do."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.processes import BenchmarkFailed, pinned
from benchmarks.gateway.traffic import KEY, USERS, chat_request

CONNECTIONS = 64
_SCRIPT = """
local bodies = {{ {bodies} }}
local requests = {{}}
local turn = 0
function init(args)
    local headers = {{ ["Content-Type"] = "application/json", ["Authorization"] = "Bearer {key}" }}
    for number, body in ipairs(bodies) do
        requests[number] = wrk.format("POST", "/v1/chat/completions", headers, body)
    end
end
function request()
    turn = turn % #requests + 1
    return requests[turn]
end
"""


@dataclass(frozen=True)
class WrkResult:
    """What wrk counted."""

    requests: int
    seconds: float
    failed: int

    @property
    def per_second(self) -> float:
        """Requests per second that were answered 200."""
        return (self.requests - self.failed) / self.seconds


def write_script(folder: Path) -> Path:
    """The script that sends the chat requests in turn."""
    bodies = ", ".join(f"[==[{chat_request(user).decode()}]==]" for user in range(USERS))
    script = folder / "chat.lua"
    script.write_text(_SCRIPT.format(bodies=bodies, key=KEY), encoding="utf-8")
    return script


def wrk_command(script: Path, port: int, seconds: float, connections: int) -> list[str]:
    """One thread of wrk."""
    return [
        "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s",
        "-s", str(script), f"http://127.0.0.1:{port}",
    ]  # fmt: skip


def run_wrk(
    script: Path, port: int, *, core: int, seconds: float, connections: int = CONNECTIONS
) -> WrkResult:
    """Load for some whole seconds."""
    done = subprocess.run(
        pinned(core, wrk_command(script, port, seconds, connections)),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    return read_wrk(done.stdout + done.stderr)


def read_wrk(text: str) -> WrkResult:
    """Read what wrk prints; raises BenchmarkFailed."""
    ran = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text)
    if ran is None:
        raise BenchmarkFailed(f"wrk said: {text[-500:]}")
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[ran[3]]
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    failed = int(status[1]) if status else 0
    failed += sum(int(count) for count in sockets.groups()) if sockets else 0
    return WrkResult(requests=int(ran[1]), seconds=float(ran[2]) * unit, failed=failed)
