"""Whether the gateway runs: as many workers as there are to be.

A worker that ends is started again at once. One that then ends again, and again, answers nobody:
only a process that has run for a while counts. Of a restart nothing is seen here: each new process
is there before the old one ends, and takes over from it. How long it has been so is counted in
looks, and counts down half as fast where it is not so, so that a gateway that comes and goes is
found as well as one that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of

GATEWAY = "gateway_down"
HEARD_S = 15.0
"""A worker calls each second or two; one that is not heard for so long hangs."""
STEADY_S = 10.0
"""For so long a worker has to run to count."""
START_S = 120.0
"""So long the workers may take to be there, when control begins."""
DOWN_S = 30.0
SHORT_S = 180.0
KEEP_S = 420.0
"""Longer than alerts last on monitors that are behind: these are explained until they end."""
MORE_S = 30.0
"""Of a long time only so much more counts: it ends no later than a short one."""
LOOK_S_MAX = 10.0
"""More time between two looks is none of the gateway's: this process did not run."""


class _Lasting:
    """For how long something has been so, in seconds: half as fast down, to a bound."""

    def __init__(self, due_s: float) -> None:
        self._due_s = due_s
        self._so_s = 0.0

    def count(self, seconds: float, *, is_so: bool) -> None:
        self._so_s += seconds if is_so else -0.5 * seconds
        self._so_s = min(max(self._so_s, 0.0), self._due_s + MORE_S)

    @property
    def is_due(self) -> bool:
        return self._so_s >= self._due_s


class GatewayWatch:
    """Remembers since when each process of a worker runs.

    Args:
        expected: Workers that there are to be; 0 if that is not known, and nothing is said then.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._since: dict[str, float] = {}
        self._begun_at: float | None = None
        self._looked_at = 0.0
        self._all_came = False
        self._steady = 0
        self._down, self._short = _Lasting(DOWN_S), _Lasting(SHORT_S)

    def look(self, workers: Sequence[WorkerStatus], now: float) -> None:
        """Take in which workers run."""
        if self._begun_at is None:
            self._begun_at = self._looked_at = now
        seconds = min(max(0.0, now - self._looked_at), LOOK_S_MAX)
        self._looked_at = now
        heard = {worker.boot: worker.worker for worker in workers if worker.silent_s < HEARD_S}
        self._since = {boot: min(now, self._since_of(boot, heard, now)) for boot in heard}
        self._all_came = self._all_came or len(set(heard.values())) >= self._expected
        steady = [boot for boot, since in self._since.items() if now - since >= STEADY_S]
        self._steady = len({heard[boot] for boot in steady})
        if not self._all_came and 0.0 <= now - self._begun_at < START_S:
            return
        self._down.count(seconds, is_so=not self._steady)
        self._short.count(seconds, is_so=self._steady < self._expected)

    def _since_of(self, boot: str, heard: Mapping[str, int], now: float) -> float:
        """One that comes while its predecessor serves takes over from that: a restart is no end."""
        own = [one for one in heard if heard[one] == heard[boot] and one in self._since]
        return self._since.get(boot, min((self._since[one] for one in own), default=now))

    def conditions(self) -> Iterator[Condition]:
        """One at most."""
        is_down = self._down.is_due
        if not self._expected or not (is_down or self._short.is_due):
            return
        said = f"{self._steady} of {self._expected} gateway workers run: others end again, or hang"
        if is_down:
            said = "no gateway worker runs, or none for long: clients are not answered"
        yield Condition(
            labels=labels_of(monitor=GATEWAY),
            severity=Severity.PAGE if is_down else Severity.TICKET,
            summary=f"{said}; see logs/gateway-*.log",
            evidence=(Figure("workers that run", float(self._steady), "", float(self._expected)),),
            keep_s=KEEP_S,
        )
