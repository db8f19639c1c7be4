"""Supervised processes: each is started again when it ends, ever later if it ends at once."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence

from fairlead.app.processes import describe

RESTART_DELAY_S_MAX = 5.0
HEALTHY_AFTER_S = 3.0
STOP_GRACE_S = 20.0
"""Seconds that a process has to end, beyond what its open requests have."""


class Child:
    """One supervised process, through all its lives."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restart_at = 0.0
        self.failures = 0
        self._trouble = ""

    def start(self, now: float) -> str | None:
        """Start it. Why that is not possible now, once for each reason; it is planned again."""
        self.started_at = now
        try:
            self.process = self._start()
        except (OSError, subprocess.SubprocessError) as error:
            # The disk is full, or there are too many processes: that passes.
            self._plan_restart(now)
            trouble = str(error)
            is_new, self._trouble = trouble != self._trouble, trouble
            return trouble if is_new else None
        self._trouble = ""
        return None

    def ended(self, now: float) -> int | None:
        """The exit code when the process has just ended; plans when it is started again."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        self._plan_restart(now)
        return code

    def replace(
        self, process: subprocess.Popen[bytes], now: float
    ) -> subprocess.Popen[bytes] | None:
        """Go on with this process; the one before it, if it had not ended."""
        old, self.process = self.process, process
        self.started_at = now
        self.failures = 0
        return old

    def _plan_restart(self, now: float) -> None:
        self.failures = 1 if now - self.started_at > HEALTHY_AFTER_S else self.failures + 1
        delay = 0.0 if self.failures == 1 else 0.2 * 2 ** min(self.failures, 10)
        self.restart_at = now + min(RESTART_DELAY_S_MAX, delay)

    def stop(self, how: signal.Signals, grace_s: float) -> None:
        """Signal, wait, and end by force what does not end."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Children:
    """All that one supervisor looks after.

    Args:
        say: Takes each line for the person who runs it.
        last_words: What a child that failed has said last; "" for nothing.
    """

    def __init__(
        self,
        children: Sequence[Child],
        say: Callable[[str], None],
        last_words: Callable[[str], str] = lambda _name: "",
    ) -> None:
        self._children = children
        self._say = say
        self._last_words = last_words

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [child.name for child in self._children]

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those that run."""
        return [child.process for child in self._children if child.process is not None]

    def start(self, now: float) -> None:
        """Start them all."""
        for child in self._children:
            self._begin(child, now)

    def look(self, now: float) -> None:
        """Start again what has ended."""
        for child in self._children:
            code = child.ended(now)
            if code is not None:
                self._say_end(child.name, code)
            if child.process is None and now >= child.restart_at:
                self._begin(child, now)

    def _begin(self, child: Child, now: float) -> None:
        trouble = child.start(now)
        if trouble is not None:
            self._say(f"{child.name} cannot be started: {trouble}; trying again")

    def _say_end(self, name: str, code: int) -> None:
        self._say(f"{name} ended ({describe(code)}); starting it again")
        words = self._last_words(name) if code > 0 else ""
        if words:
            self._say(f"  its last words: {words}")
