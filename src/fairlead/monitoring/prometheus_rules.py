"""The same promises as Prometheus rules: recording rules for each window, alerts over them.

They fire at the same minute as `burning.assess` on the same counts, with the labels that our own
alerts have in an Alertmanager, which takes both for the same ones. What differs is what Prometheus
cannot see: the first increase of a series that appears with a value already, and windows longer
than its retention (15 days unless it is told otherwise, so the budget of a month needs more), and
where in a bucket of a histogram a request lies: a threshold between two bounds is the upper one.
What judges say is shown by control, all else by the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import yaml

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.burning import BURN, Pair, Severity, pairs_of
from fairlead.monitoring.objectives import Objective, ObjectiveKind, check_objective
from fairlead.monitoring.promising import MONITOR
from fairlead.monitoring.runbooks import annotation, common, runbook_of

REQUESTS = "fairlead_gateway_requests_total"
FAILED = "fairlead_gateway_requests_failed_total"
COST = "fairlead_gateway_cost_usd_total"
SNAPSHOT = "fairlead_gateway_snapshot_version"
LOST = "fairlead_spool_lost_records_total"
WATCHING = "fairlead_control_watching_age_seconds"
JUDGED = "fairlead_control_judged_answers_total"
BAD = "fairlead_control_judged_answers_bad_total"
_COUNTERS = {
    ObjectiveKind.AVAILABILITY: (REQUESTS, FAILED),
    ObjectiveKind.COST: (REQUESTS, COST),
    ObjectiveKind.QUALITY: (JUDGED, BAD),
}
HISTOGRAMS = {
    ObjectiveKind.TTFT: "fairlead_gateway_time_to_first_token_seconds",
    ObjectiveKind.ITL: "fairlead_gateway_inter_token_latency_seconds",
    ObjectiveKind.LATENCY: "fairlead_gateway_request_duration_seconds",
}
RECORDED = "service:fairlead_slo_{}:{}"
KEEP_FIRING_FOR = "5m"
BUDGET_EVERY = "5m"
BLIND_FOR = "5m"
BEGUN_FOR = "2m"
"""A Prometheus that has just begun evaluates rules before it has scraped anything."""

WATCHING_S = 120
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


class Promises(msgspec.Struct, frozen=True):
    """What is watched of one service.

    Attributes:
        runbook: Address that alerts link to; empty for the place on our own page, in words.
    """

    service: str
    objectives: tuple[Objective, ...]
    runbook: str = ""


class Bounds(msgspec.Struct, frozen=True):
    """Upper bounds of the histograms' buckets, in seconds and ascending."""

    durations: tuple[float, ...]
    tokens: tuple[float, ...]

    def of(self, kind: ObjectiveKind) -> tuple[float, ...]:
        """Those of the histogram that shows this kind."""
        return self.tokens if kind is ObjectiveKind.ITL else self.durations


def rules_yaml(promises: Sequence[Promises], bounds: Bounds) -> str:
    """A rule file for Prometheus; raises InvalidInput for an objective that makes no sense."""
    runbook = common(promise.runbook for promise in promises)
    groups: list[dict[str, Any]] = [{"name": "fairlead-watchers", "rules": _watchers(runbook)}]
    notes = []
    for promise in promises:
        for objective in promise.objectives:
            check_objective(objective)
            notes += _notes(promise.service, objective, bounds)
            name = f"fairlead-slo-{promise.service}-{objective.kind}"
            groups.append({"name": name, "rules": list(_slo(promise, objective, bounds))})
            # A month of samples is much to read each minute for what changes slowly.
            budget = list(_budget(promise, objective, bounds))
            groups.append({"name": f"{name}-budget", "interval": BUDGET_EVERY, "rules": budget})
            if objective.kind is ObjectiveKind.QUALITY:
                groups.append({"name": f"{name}-blind", "rules": [_quality_blind(promise)]})
    head = "# Rules for Prometheus 2.42 or newer, written by `fairlead monitor rules`.\n"
    said = "".join(f"{line}\n" for line in notes)
    return head + said + yaml.safe_dump({"groups": groups}, sort_keys=False, width=100)


def duration(seconds: int) -> str:
    """A time as Prometheus writes it: 300 is `5m`."""
    for unit, size in _UNITS:
        if seconds % size == 0 and seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _slo(promise: Promises, objective: Objective, bounds: Bounds) -> Iterator[dict[str, Any]]:
    pairs = pairs_of(objective)
    for window_s in sorted({window for pair in pairs for window in (pair.long_s, pair.short_s)}):
        yield from _recorded(promise, objective, bounds, window_s)
    for severity in dict.fromkeys(pair.severity for pair in pairs):
        yield _alert(promise, objective, severity, [p for p in pairs if p.severity is severity])


def _budget(promise: Promises, objective: Objective, bounds: Bounds) -> Iterator[dict[str, Any]]:
    """What is left of the period's budget."""
    period = round(objective.period_s / 60) * 60
    yield from _recorded(promise, objective, bounds, period)
    yield {
        "record": RECORDED.format("budget_left", duration(period)),
        "expr": f"1 - {_series(promise, objective, 'burn_rate', period)}",
        "labels": {"service": promise.service, "slo": objective.kind.value},
    }


def _recorded(
    promise: Promises, objective: Objective, bounds: Bounds, window_s: int
) -> Iterator[dict[str, Any]]:
    """Requests, bad ones and burn rate of a window."""
    labels = {"service": promise.service, "slo": objective.kind.value}
    window = duration(window_s)
    total, bad = _counts(promise.service, objective, bounds, window)
    for what, expr in (("total", total), ("bad", bad)):
        yield {"record": RECORDED.format(what, window), "expr": expr, "labels": {**labels}}
    yield {
        "record": RECORDED.format("burn_rate", window),
        "expr": f"{_series(promise, objective, 'bad', window_s)} / "
        f"({_series(promise, objective, 'total', window_s)} * {objective.allowance!r})",
        "labels": {**labels},
    }


def _alert(
    promise: Promises, objective: Objective, severity: Severity, pairs: Sequence[Pair]
) -> dict[str, Any]:
    rules = " or ".join(f"({_holds(promise, objective, pair)})" for pair in pairs)
    annotations = {
        "summary": f"{promise.service}: {objective.kind} burns its error budget",
        "description": (
            f"{promise.service} promises {objective.words}. The budget of "
            f"{objective.period_days:g} days burns {{{{ $value | humanize }}}} times as fast as it "
            "may."
        ),
        **annotation(runbook_of(MONITOR, promise.runbook)),
    }
    return {
        "alert": "FairleadSlo",
        "expr": rules,
        "keep_firing_for": KEEP_FIRING_FOR,
        "labels": {
            "severity": severity.value,
            "monitor": "slo",
            "service": promise.service,
            "slo": objective.kind.value,
            "burn": BURN[severity],
        },
        "annotations": annotations,
    }


def _holds(promise: Promises, objective: Objective, pair: Pair) -> str:
    parts = [
        f"{_series(promise, objective, 'burn_rate', pair.long_s)} > {pair.factor!r}",
        f"{_series(promise, objective, 'burn_rate', pair.short_s)} > {pair.factor!r}",
        f"{_series(promise, objective, 'total', pair.long_s)} >= {objective.requests_min}",
    ]
    if objective.kind is not ObjectiveKind.COST:
        # Increases are estimates between two scrapes: three requests can read as 2.98.
        least = objective.bad_min - 0.5
        parts.append(f"{_series(promise, objective, 'bad', pair.long_s)} > {least!r}")
    return " and ".join(parts)


def _series(promise: Promises, objective: Objective, what: str, window_s: int) -> str:
    name = RECORDED.format(what, duration(window_s))
    return f'{name}{{service="{promise.service}",slo="{objective.kind}"}}'


def _counts(service: str, objective: Objective, bounds: Bounds, window: str) -> tuple[str, str]:
    """How many requests there were in a window, and how many of them were bad."""

    def increase(metric: str, more: str = "") -> str:
        return f'sum by (service) (increase({metric}{{service="{service}"{more}}}[{window}]))'

    histogram = HISTOGRAMS.get(objective.kind)
    if histogram is None:
        counted, bad = _COUNTERS[objective.kind]
        return increase(counted), increase(bad)
    total = increase(f"{histogram}_count")
    good = increase(f"{histogram}_bucket", f',le=~"{_le(_bound(objective, bounds))}"')
    return total, f"clamp_min({total} - {good}, 0)"


def _bound(objective: Objective, bounds: Bounds) -> float:
    """The least bound, in seconds, by which every request that is in time is counted.

    One of the bucket around the threshold cannot be told to be late, and a page must not be false.
    """
    threshold_s = (objective.threshold or 0.0) / 1_000.0
    for bound in bounds.of(objective.kind):
        if bound >= threshold_s:
            return bound
    raise InvalidInput(
        f"slos.{objective.kind}: no bucket of {HISTOGRAMS[objective.kind]} is above "
        f"{objective.threshold:g} ms"
    )


def _notes(service: str, objective: Objective, bounds: Bounds) -> list[str]:
    """A comment where control has to be scraped, or a threshold cannot be seen as it is."""
    if objective.kind is ObjectiveKind.QUALITY:
        return [f"# {service}: quality is shown by control; its /metrics have to be scraped, too."]
    if objective.kind not in HISTOGRAMS:
        return []
    bound, threshold_ms = _bound(objective, bounds), objective.threshold or 0.0
    if bound == threshold_ms / 1_000.0:
        return []
    return [
        f"# {service}: {objective.kind} is late here from {bound * 1_000.0:g} ms on, not "
        f"{threshold_ms:g}: the next bound of the histogram."
    ]


def _le(bound: float) -> str:
    """A bound as any version writes it: `1` and `1.0` are the same one."""
    text = repr(bound).replace(".", "[.]")
    return f"{int(bound)}([.]0)?" if bound == int(bound) else text


def _quality_blind(promise: Promises) -> dict[str, Any]:
    """That nobody shows what judges said: without it a promise of quality is broken in silence."""
    return {
        "alert": "FairleadQualityBlind",
        "expr": f'absent_over_time({JUDGED}{{service="{promise.service}"}}[{BLIND_FOR}])',
        "for": BEGUN_FOR,
        "labels": {
            "severity": Severity.TICKET.value,
            "monitor": "monitor_blind",
            "service": promise.service,
            "watched": MONITOR,
        },
        "annotations": {
            "summary": f"{promise.service}: its promise of quality is not watched",
            "description": f"{JUDGED} of this service has had no sample for {BLIND_FOR}: control "
            "is down, or this Prometheus does not reach it or has the wrong token (the page of "
            "targets says so), or the service is not shipped with this promise.",
            **annotation(runbook_of("monitor_blind", promise.runbook)),
        },
    }


def _watchers(runbook: str) -> list[dict[str, Any]]:
    """Alerts on what the others need: metrics, and records."""
    return [
        {
            "alert": "FairleadGatewayBlind",
            "expr": f"absent_over_time({SNAPSHOT}[{BLIND_FOR}])",
            "for": BEGUN_FOR,
            "labels": {"severity": Severity.PAGE.value, "monitor": "monitor_blind"},
            "annotations": {
                "summary": "no gateway worker is scraped: no promise is watched",
                "description": f"{SNAPSHOT} has had no sample for {BLIND_FOR}: the gateway is "
                "down, or this Prometheus does not reach it or has the wrong token. `fairlead "
                "doctor` says whether the gateway answers, the page of targets why it is not "
                "scraped.",
                **annotation(runbook_of("gateway_down", runbook)),
            },
        },
        {
            "alert": "FairleadRecordsLost",
            "expr": f"increase({LOST}[{BLIND_FOR}]) > 0",
            "keep_firing_for": KEEP_FIRING_FOR,
            "labels": {"severity": Severity.TICKET.value, "monitor": "records"},
            "annotations": {
                "summary": "the gateway could not write records to its spool",
                "description": "{{ $value | humanize }} records were given up: the disk is full or "
                "slow, as a rule. Users are answered; figures of these requests are missing.",
                **annotation(runbook_of("records", runbook)),
            },
        },
        {
            "alert": "FairleadWatchingStopped",
            # Control is there and no look comes to its end; or it was scraped, and is not any more.
            "expr": f"{WATCHING} > {WATCHING_S} or "
            f"(count(last_over_time({WATCHING}[1d])) unless "
            f"count(last_over_time({WATCHING}[{BLIND_FOR}])))",
            "for": BEGUN_FOR,
            "labels": {"severity": Severity.PAGE.value, "monitor": "monitor_blind"},
            "annotations": {
                "summary": "fairlead's monitors do not look at anything",
                "description": "No look has come to its end for minutes, or control is not "
                "scraped any more: nobody watches, and no alert is told. Users are answered all "
                "the same. `fairlead doctor` and the end of `logs/control.log` say why.",
                **annotation(runbook_of("monitor_blind", runbook)),
            },
        },
    ]
