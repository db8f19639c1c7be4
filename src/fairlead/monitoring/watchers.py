"""Watching the watchers: a monitor that cannot see is an alert of its own, and never silence.

A monitor reports what it has looked at. It is blind when there was traffic and it saw none of it,
when it is too far behind, when it failed, when its self-test (a fault that it must find, in data
made for it) did not pass or was not made in time, or when it has not reported at all. No traffic
is no blindness: there was nothing to see. Where what is not seen could be a page, so is blindness
that goes on for long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

import msgspec

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.inhibition import BLIND

UNTESTED = "untested"
"""The label `fault` where only the self-test is overdue."""


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is expected of a monitor.

    Attributes:
        every_s: Seconds from one report to the next; three times that is too long.
        lag_s_max: How far behind the traffic it may be.
        self_test_every_s: Seconds from one self-test to the next; twice that is too long.
        page_after_s: After so long without sight somebody has to know now; None for never.
        needs: Another service without which it cannot look; empty for none.
    """

    monitor: str
    service: str
    every_s: float
    lag_s_max: float = 120.0
    self_test_every_s: float = 86_400.0
    severity: Severity = Severity.TICKET
    page_after_s: float | None = None
    needs: str = ""


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a monitor said last.

    Attributes:
        at: Unix time of the report.
        requests: Requests of the service in the time that it looked at.
        looked_at: How many of them it took in.
        data_until: Unix time up to which it knows everything; None when it knows nothing.
        error: Why it could not look; empty when it could.
        self_tested_at: Unix time of its last self-test; None for none so far.
        self_test_error: Why that did not pass; empty when it did.
        lacks: What did not come of what it takes in, in words; empty where that is anything.
        is_unserved: The error is that what it goes by, such as vectors, cannot be had now.
    """

    monitor: str
    service: str
    at: float
    requests: int = 0
    looked_at: int = 0
    data_until: float | None = None
    error: str = ""
    self_tested_at: float | None = None
    self_test_error: str = ""
    lacks: str = ""
    is_unserved: bool = False

    @property
    def has_looked(self) -> bool:
        """Whether it could see what there was."""
        return not self.error and (self.looked_at > 0 or self.requests == 0)


def blind(
    watches: Iterable[Watch],
    reports: Iterable[Report],
    started_at: float,
    now: float,
    alerts: Iterable[Alert] = (),
) -> tuple[Condition, ...]:
    """A condition for each way in which a monitor does not see.

    Args:
        started_at: Unix time since which monitors could have reported.
        alerts: Those of before, which tell since when one does not see.
    """
    last = {(report.service, report.monitor): report for report in reports}
    since, found = _blind_since(alerts), list[Condition]()
    for watch in watches:
        one = (watch.service, watch.monitor)
        blind_s = now - since.get(one, now)
        is_long = watch.page_after_s is not None and blind_s >= watch.page_after_s
        faults = _faults(watch, last.get(one), started_at, now)
        found += (_graver(fault) if is_long else fault for fault in faults)
    return tuple(found)


def graver(
    conditions: Iterable[Condition],
    pages: Collection[str],
    after_s: float,
    alerts: Iterable[Alert],
    now: float,
) -> Iterator[Condition]:
    """The conditions, as pages those that one of these monitors has not seen for so long.

    Args:
        pages: Monitors of which nothing else is expected, and whose own alerts could be pages.
        alerts: Those of before, which tell since when one does not see.
    """
    since = _blind_since(alerts)
    for condition in conditions:
        of = dict(condition.labels)
        one = (of.get("service", ""), of.get("watched", ""))
        is_blind = of.get("monitor") == BLIND and one[1] in pages
        is_long = is_blind and now - since.get(one, now) >= after_s
        yield _graver(condition) if is_long else condition


def _blind_since(alerts: Iterable[Alert]) -> dict[tuple[str, str], float]:
    """Unix time since which a monitor does not see, in whatever way, by service and monitor."""
    found: dict[tuple[str, str], float] = {}
    for alert in alerts:
        of = alert.of
        if alert.is_firing and of.get("monitor") == BLIND and of.get("fault") != UNTESTED:
            one = (of.get("service", ""), of.get("watched", ""))
            found[one] = min(alert.first_seen, found.get(one, alert.first_seen))
    return found


def _graver(fault: Condition) -> Condition:
    if dict(fault.labels).get("fault") == UNTESTED:
        return fault
    said = f"{fault.summary}, for long: what it would page for goes unseen"
    return msgspec.structs.replace(fault, severity=Severity.PAGE, summary=said)


def _faults(
    watch: Watch, report: Report | None, started_at: float, now: float
) -> Iterator[Condition]:
    silent_s = now - (started_at if report is None else max(started_at, report.at))
    if silent_s >= 3.0 * watch.every_s:
        yield _condition(watch, "silent", "has not reported", "silent for", silent_s)
    if report is None:
        return
    if report.error:
        why = f"could not look: {report.error[:300]}"
        yield _condition(watch, "failed", why, needs=watch.needs if report.is_unserved else "")
    elif report.requests > 0 and report.looked_at == 0:
        count = Figure("requests that it did not see", float(report.requests))
        what = f": no {report.lacks[:300]}" if report.lacks else ""
        yield _condition(watch, "no_data", f"saw nothing of the traffic{what}", figure=count)
    elif report.requests > 0 and report.data_until is not None:
        lag_s = report.at - report.data_until
        if lag_s > watch.lag_s_max:
            limit = Figure("lag", lag_s, "s", watch.lag_s_max)
            yield _condition(watch, "lag", "is behind the traffic", figure=limit)
    yield from _self_test(watch, report, started_at, now)


def _self_test(watch: Watch, report: Report, started_at: float, now: float) -> Iterator[Condition]:
    if report.self_test_error:
        why = f"failed its self-test: {report.self_test_error[:300]}"
        yield _condition(watch, "self_test", why)
        return
    tested_at = started_at if report.self_tested_at is None else report.self_tested_at
    if now - tested_at >= 2.0 * watch.self_test_every_s:
        age_s = now - tested_at
        yield _condition(watch, UNTESTED, "was not tested in time", "last self-test", age_s)


def _condition(
    watch: Watch,
    fault: str,
    said: str,
    what: str = "",
    seconds: float = math.nan,
    figure: Figure | None = None,
    needs: str = "",
) -> Condition:
    shown = Figure(what, seconds, "s") if what else figure
    return Condition(
        labels=labels_of(
            monitor=BLIND, service=watch.service, watched=watch.monitor, fault=fault, needs=needs
        ),
        severity=watch.severity,
        summary=f"{f'{watch.service}: ' if watch.service else ''}monitor {watch.monitor} {said}",
        evidence=() if shown is None else (shown,),
    )
