"""Do the monitors of the platform find what is made for them, and nothing where all is well?

Those that look at levels themselves are tried on made ones: replicas, spools, clocks, files and
workers, over some minutes of made time; so are those who judge over time (`judged_self_tests`).
The others only say on what a part of control says of itself (judge models, drills, rollouts,
gates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count

import msgspec

from fairlead.control.acting.clock_watch import CLOCK, SKEW_S_MAX, ClockWatch
from fairlead.control.acting.files_watch import DAMAGED, FilesWatch
from fairlead.control.acting.gateway_watch import GATEWAY, GatewayWatch
from fairlead.control.acting.judged_self_tests import limits, provider
from fairlead.control.acting.records_watch import RECORDS, RecordsWatch
from fairlead.control.acting.replica_watch import (
    FLAPPING,
    REPLICA_DOWN,
    SERVICE_DOWN,
    ReplicaWatch,
)
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.world.hub import WorkerStatus
from fairlead.control.world.wants import KnownRelease, ServiceWant
from fairlead.domain.defects import defect
from fairlead.domain.release import Engine, Release, RemoteModel
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.monitoring.conditions import Condition
from fairlead.rollout.machine import Desired
from fairlead.rollout.plan import Plan
from fairlead.store.rows import SpoolCursor

EVERY_S = 86_400.0
_LOOK_S = 2.0
_LOOKS = 600
_DIGEST = "sha256:" + "5e" * 32
_RELEASE = Release(RemoteModel("http://self-test/v1", "self-test"), Engine("remote"))
_SPOOL = "self-test"

Test = Callable[[], str]
"""Empty if it passes, else what went wrong."""


class SelfTests:
    """Runs them at the first look, and then each day."""

    def __init__(self, tests: Mapping[tuple[str, ...], Test] | None = None) -> None:
        """`tests`: by the monitors that they are of."""
        self._tests = TESTS if tests is None else tests
        self._at: float | None = None
        self._failed: dict[str, str] = {}

    def failed(self, now: float) -> Mapping[str, str]:
        """Why, by monitor, as of the last time."""
        if self._at is None or not 0.0 <= now - self._at < EVERY_S:
            self._at = now
            self._failed = {
                monitor: f"failed its self-test: {why}"
                for monitors, test in self._tests.items()
                if (why := _tried(test))
                for monitor in monitors
            }
        return self._failed


def replicas() -> str:
    """A replica that fails, one that comes and goes, and two that are well."""
    want = ServiceWant(
        ServiceSpec("self-test", _DIGEST, "self-test", Plan()), Desired(champion=_DIGEST), None,
        {_DIGEST: KnownRelease(_DIGEST, "self-test", _RELEASE)}, {_DIGEST: 2},
    )  # fmt: skip
    made = ReplicaStatus("1", _RELEASE.engine_digest, ReplicaState.READY, "http://x", 7, 2, 0.0)
    well = (made, _changed(made, id="2"))
    none = tuple(_changed(one, state=ReplicaState.FAILED) for one in well)
    comes_and_goes = ((well[0], _changed(well[1], restarts=n // 20)) for n in count())

    def told(looks: Iterable[tuple[ReplicaStatus, ...]]) -> set[str]:
        watch, found = ReplicaWatch(), set[str]()
        for now, seen in zip(_times(), looks, strict=False):
            watch.look((want,), seen, now)
            conditions = watch.conditions((want,), now, {_RELEASE.engine_digest: 60.0})
            found |= _monitors(conditions)
        return found

    if found := told(well for _ in count()):
        return f"{', '.join(sorted(found))} where all replicas are ready"
    missed = {SERVICE_DOWN, REPLICA_DOWN} - told(none for _ in count())
    missed |= {FLAPPING} - told(comes_and_goes)
    return f"no {', '.join(sorted(missed))} of made replicas" if missed else ""


def records() -> str:
    """A spool that is read, and one that is not."""

    def told(*, is_read: bool) -> bool:
        watch, worker = RecordsWatch(), _worker()
        for number, now in enumerate(_times()):
            watch.look([worker], {_SPOOL: SpoolCursor(1, number if is_read else 0)}, now)
        return bool(watch.conditions([worker], now))

    return _verdict(told(is_read=False), told(is_read=True), "a spool that nobody reads")


def clocks() -> str:
    """A clock that is right, and one that is ahead."""

    def told(ahead_s: float) -> bool:
        return bool(list(ClockWatch().conditions([_worker(ahead_s=ahead_s)])))

    return _verdict(told(2 * SKEW_S_MAX), told(0.1), "a clock that is ahead")


def files() -> str:
    """A release whose files are there, and one whose are not."""

    def told(why: str) -> bool:
        watch = FilesWatch(lambda _: why)
        watch.look([("self-test", _DIGEST)], 0.0)
        return bool(list(watch.conditions()))

    return _verdict(told("it is gone"), told(""), "a file that is gone")


def gateway() -> str:
    """A worker that runs, and then does not."""

    def told(*, runs: bool) -> bool:
        watch = GatewayWatch(1)
        for number, now in enumerate(_times()):
            watch.look([_worker()] if runs or number < _LOOKS // 2 else [], now)
        return bool(list(watch.conditions()))

    return _verdict(told(runs=False), told(runs=True), "a gateway that is gone")


TESTS: Mapping[tuple[str, ...], Test] = {
    (SERVICE_DOWN, REPLICA_DOWN, FLAPPING): replicas,
    (RECORDS,): records,
    (CLOCK,): clocks,
    (DAMAGED,): files,
    (GATEWAY,): gateway,
    ("provider_changed",): provider,
    ("champion_over_limit",): limits,
}


def _tried(test: Test) -> str:
    try:
        return test()
    except Exception as error:  # noqa: BLE001 - that, too, is a test that failed
        return defect(error)


def _verdict(is_found: bool, is_false: bool, what: str) -> str:
    if not is_found:
        return f"{what} was not found"
    return "something was told though all was well" if is_false else ""


def _times() -> Iterator[float]:
    return (1_000.0 + _LOOK_S * number for number in range(_LOOKS))


def _worker(ahead_s: float = 0.0) -> WorkerStatus:
    return WorkerStatus(_SPOOL, 0, 1, 1, 0.0, ahead_s)


def _changed(status: ReplicaStatus, **fields: object) -> ReplicaStatus:
    return msgspec.structs.replace(status, **fields)


def _monitors(conditions: Iterable[Condition]) -> set[str]:
    return {dict(condition.labels)["monitor"] for condition in conditions}
