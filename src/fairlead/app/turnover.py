"""A rolling restart of the gateway: new worker processes in the place of the old, one by one.

    start the new one -> it serves -> the old one retires -> next worker

The new process is the code that is on disk now. It says through a pipe that it serves: then it
runs on a snapshot, and control knows of it. The old one is told to retire: it accepts nothing more,
answers what is open, closes each connection with its next answer, and ends. Nobody waits for that.
All of them accept from the one socket of the supervisor, so no connection is ever refused. A new
process that does not come up ends the restart, and the old one serves on.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fairlead.app.processes import describe
from fairlead.app.state import write_private
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import StorageFailed
from fairlead.domain.wording import count_of

RETIRE = signal.SIGUSR1
"""What tells a worker to end when its last client has left; SIGTERM then still hurries it."""
COME_UP_S = 30.0
DRAIN_S = 600.0


class RestartRequest(msgspec.Struct, frozen=True):
    """What `fairlead gateway restart` asks of the supervisor.

    Attributes:
        id: Names the file with the report.
        drain_s: Seconds that requests open in an old worker have to end.
    """

    id: str
    drain_s: float = DRAIN_S


class RestartState(enum.Enum):
    """Where a restart is."""

    UNDER_WAY = "under_way"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


class RestartReport(msgspec.Struct, frozen=True):
    """How far a restart is.

    Attributes:
        replaced: Numbers of the workers in whose place new processes serve.
        draining: Old processes that still have clients.
        trouble: Why it failed or was refused.
    """

    state: RestartState
    workers: int
    replaced: tuple[int, ...] = ()
    draining: int = 0
    trouble: str = ""


def request_path(run: Path, request: str) -> Path:
    """Where a request is put for the supervisor, which is then sent SIGUSR2."""
    return run / f"restart-{request}.request"


def draining(old: int) -> str:
    """How many old workers are still there, and until when."""
    if old == 1:
        return "1 old worker ends when its clients are done"
    return f"{old} old workers end when their clients are done"


def report_path(run: Path, request: str) -> Path:
    """Where the supervisor says what became of it."""
    return run / f"restart-{request}.report"


def take_requests(run: Path) -> list[RestartRequest]:
    """The requests that wait, taken out of the folder."""
    found = []
    for path in sorted(run.glob("restart-*.request")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found.append(decode_json(path.read_bytes(), RestartRequest))
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def clear_away(run: Path) -> None:
    """Remove what an `up` before this one has left."""
    for path in run.glob("restart-*.re*"):
        with contextlib.suppress(OSError):
            path.unlink()


class Standing(enum.Enum):
    """How a new process does."""

    STARTING = enum.auto()
    SERVES = enum.auto()
    FAILED = enum.auto()


Start = Callable[[int, int], subprocess.Popen[bytes]]
"""Starts a new process for a worker's number, which says through this pipe that it serves."""


class Successor:
    """A new worker process, until it serves.

    Args:
        ready: Read end of the pipe through which it says so.
    """

    def __init__(self, process: subprocess.Popen[bytes], ready: int) -> None:
        self.process = process
        self._ready = ready
        os.set_blocking(ready, False)

    @classmethod
    def start(cls, start: Start, number: int) -> Successor:
        """Start one; raises OSError or SubprocessError."""
        read, write = os.pipe()
        try:
            return cls(start(number, write), read)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)

    def standing(self) -> Standing:
        try:
            says = os.read(self._ready, 16)
        except BlockingIOError:
            return Standing.STARTING
        return Standing.SERVES if says else Standing.FAILED

    def close(self) -> None:
        os.close(self._ready)


class Worker(Protocol):
    """What the supervisor keeps running under one worker's name."""

    name: str

    def replace(
        self, process: subprocess.Popen[bytes], now: float
    ) -> subprocess.Popen[bytes] | None:
        """Go on with this process; the one before it, if it had not ended."""


class _Retired(msgspec.Struct):
    """An old process; when it is told to hurry, and when it then is ended by force."""

    name: str
    process: subprocess.Popen[bytes]
    hurry_at: float
    kill_at: float | None = None


class Turnover:
    """The restart that is under way, if any, and all old workers that still have clients.

    Args:
        run: Folder for requests and reports.
        start: Raises OSError or SubprocessError.
        last_words: What the worker of this name said last in its log.
        hurry_s: Seconds in which a worker ends after SIGTERM, whatever is open.
    """

    def __init__(
        self,
        run: Path,
        *,
        start: Start,
        last_words: Callable[[str], str] = lambda _name: "",
        hurry_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._run = run
        self._start = start
        self._last_words = last_words
        self._hurry_s = hurry_s
        self._say = say
        self._workers: Sequence[Worker] = ()
        self._request: RestartRequest | None = None
        self._replaced: list[int] = []
        self._successor: Successor | None = None
        self._give_up_at = 0.0
        self._retired: list[_Retired] = []

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The processes that are no supervised worker: not yet, or no longer."""
        successor = [] if self._successor is None else [self._successor.process]
        return successor + [old.process for old in self._retired]

    def begin(self, request: RestartRequest, workers: Sequence[Worker], now: float) -> None:
        """Restart these workers, unless a restart is under way."""
        if self._request is not None:
            refused = RestartReport(
                RestartState.REFUSED, len(workers), trouble="another restart is under way"
            )
            self._report(request, refused)
            return
        self._request = request
        self._workers = workers
        self._replaced = []
        self._say(f"restarting {count_of(len(workers), 'gateway worker')}, one after the other")
        self._next(now)

    def look(self, now: float) -> None:
        """Go on with what has become possible."""
        self._look_after_retired(now)
        if self._request is None or self._successor is None:
            return
        number = len(self._replaced)
        standing = self._successor.standing()
        if standing is Standing.SERVES:
            self._replace(self._successor, now)
            self._next(now)
        elif standing is Standing.FAILED:
            code = self._end_successor()
            words = self._last_words(self._workers[number].name)
            self._fail(
                f"its new process ended ({describe(code)})" + (f": {words}" if words else "")
            )
        elif now >= self._give_up_at:
            self._end_successor()
            self._fail(f"its new process did not serve after {COME_UP_S:.0f} s")

    def abandon(self) -> None:
        """The installation stops: end what has not come up yet."""
        if self._successor is not None:
            self._end_successor()
            self._fail("fairlead is stopping")

    def stop(self, deadline: float) -> None:
        """Wait for the old workers, which have been told to end; force those that do not."""
        for old in self._retired:
            try:
                old.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                old.process.kill()
                old.process.wait()
        self._retired.clear()

    def _next(self, now: float) -> None:
        number = len(self._replaced)
        if number == len(self._workers):
            self._say(f"restarted; {draining(len(self._retired))}")
            self._end(RestartState.DONE, "")
            return
        try:
            self._successor = Successor.start(self._start, number)
        except (OSError, subprocess.SubprocessError) as error:
            self._fail(f"its new process cannot be started: {error}")
            return
        self._give_up_at = now + COME_UP_S
        self._tell(RestartState.UNDER_WAY)

    def _replace(self, successor: Successor, now: float) -> None:
        assert self._request is not None
        successor.close()
        self._successor = None
        child = self._workers[len(self._replaced)]
        old = child.replace(successor.process, now)
        if old is not None:
            old.send_signal(RETIRE)
            self._retired.append(_Retired(child.name, old, now + self._request.drain_s))
        self._replaced.append(len(self._replaced))

    def _end_successor(self) -> int:
        assert self._successor is not None
        successor, self._successor = self._successor, None
        successor.close()
        # It may have closed the pipe and hang: it serves nobody, so force does no harm.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return successor.process.wait(0.5)
        successor.process.kill()
        return successor.process.wait()

    def _look_after_retired(self, now: float) -> None:
        for old in list(self._retired):
            code = old.process.poll()
            if code is not None:
                self._retired.remove(old)
                if code != 0:
                    self._say(f"an old process of {old.name} ended ({describe(code)})")
            elif old.kill_at is not None and now >= old.kill_at:
                old.process.kill()
            elif old.kill_at is None and now >= old.hurry_at:
                # However late that is noticed: it has its seconds from now on.
                old.kill_at = now + self._hurry_s
                self._say(f"an old process of {old.name} still has clients; ending it")
                old.process.send_signal(signal.SIGTERM)

    def _fail(self, why: str) -> None:
        name = self._workers[len(self._replaced)].name
        trouble = f"{name}: {why}; the old one serves on"
        self._say(f"the restart has failed: {trouble}")
        self._end(RestartState.FAILED, trouble)

    def _end(self, state: RestartState, trouble: str) -> None:
        self._tell(state, trouble)
        self._request = None

    def _tell(self, state: RestartState, trouble: str = "") -> None:
        assert self._request is not None
        report = RestartReport(
            state=state,
            workers=len(self._workers),
            replaced=tuple(self._replaced),
            draining=len(self._retired),
            trouble=trouble,
        )
        self._report(self._request, report)

    def _report(self, request: RestartRequest, report: RestartReport) -> None:
        if not request.id:
            return  # A bare signal: nobody reads it.
        try:
            write_private(report_path(self._run, request.id), msgspec.json.encode(report))
        except StorageFailed as error:
            self._say(f"the restart cannot be reported: {error.message}")
