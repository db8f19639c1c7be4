"""The dashboard of the platform itself: does everything run, and is anything falling behind?"""

from __future__ import annotations

from fairlead.monitoring.dashboards.building import Dashboard, Panel, Query, Row, Unit
from fairlead.monitoring.dashboards.phrases import WINDOW


def platform_dashboard() -> Dashboard:
    """See the head of this file."""
    return Dashboard(
        uid="fairlead-platform",
        title="fairlead: platform",
        words="Replicas, gateway workers, records, control, alerts.",
        rows=(_now(), _replicas(), _engines(), _gateway(), _records(), _control()),
    )


def _graph(title: str, expr: str, legend: str = "", unit: Unit = "short", words: str = "") -> Panel:
    return Panel(title, (Query(expr, legend),), unit, words=words)


def _rate(metric: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}[{WINDOW}]))"


def _now() -> Row:
    def number(title: str, expr: str, words: str) -> Panel:
        return Panel(title, (Query(expr),), kind="stat", words=words, width=4, height=4)

    return Row(
        "Now",
        (
            number(
                "Alerts firing",
                'sum(fairlead_alerts{state="firing"}) or vector(0)',
                "Of all services.",
            ),
            number(
                "Replicas ready",
                'sum(fairlead_replicas{state="ready"})',
                "One that several releases share counts for each of them.",
            ),
            number("Gateway workers", "fairlead_control_workers", "That control hears of."),
            number("Observer", "fairlead_observer_up", "1: it runs."),
            number("Store", "fairlead_store_up", "1: control can read it."),
            number(
                "Records lost",
                "sum(increase(fairlead_spool_lost_records_total[1d]))",
                "In a day, because the spool could not be written. Should be 0.",
            ),
        ),
    )


def _replicas() -> Row:
    ready = 'sum by (service, release) (fairlead_replicas{state="ready"})'
    missing = (
        f"fairlead_replicas_wanted - on (service, release) ({ready}"
        " or on (service, release) fairlead_replicas_wanted * 0)"
    )
    return Row(
        "Replicas",
        (
            _graph(
                "By state",
                "sum by (service, state) (fairlead_replicas)",
                "{{service}} {{state}}",
            ),
            _graph(
                "Missing",
                missing,
                "{{service}} {{release}}",
                words="Wanted, and not ready. Above 0 for long: look at `fairlead status`.",
            ),
            _graph(
                "Restarts in an hour",
                "increase(fairlead_replica_restarts_total[1h]) > 0",
                "{{replica}}",
            ),
        ),
    )


def _engines() -> Row:
    def of(what: str) -> str:
        return f"max by (replica) (fairlead_replica_{what})"

    def rate(what: str) -> str:
        return f"max by (replica) (rate(fairlead_replica_{what}_total[{WINDOW}]))"

    return Row(
        "Engines",
        (
            _graph("Requests in work", of("requests_running"), "{{replica}}"),
            _graph(
                "Requests that wait in engines",
                of("requests_waiting"),
                "{{replica}}",
                words="The gateway lets no more through than there are slots.",
            ),
            _graph(
                "KV cache in use",
                of("kv_cache_usage_ratio"),
                "{{replica}}",
                "percentunit",
                words="Where the engine says so.",
            ),
            _graph("Tokens made", rate("generation_tokens"), "{{replica}}", "cps"),
            _graph("Prompt tokens", rate("prompt_tokens"), "{{replica}}", "cps"),
            _graph(
                "Time per token",
                f"{rate('decode_seconds')} / ({rate('generation_tokens')} > 0)",
                "{{replica}}",
                "s",
                words="One that is above the others is a slow replica.",
            ),
        ),
    )


def _gateway() -> Row:
    return Row(
        "Gateway",
        (
            _graph(
                "Open requests",
                "sum by (worker) (fairlead_gateway_open_requests)",
                "worker {{worker}}",
            ),
            _graph(
                "Requests that wait",
                "sum by (service) (fairlead_gateway_queue_depth)",
                "{{service}}",
                words="For a free slot of a replica.",
            ),
            _graph(
                "Memory",
                "fairlead_gateway_memory_resident_bytes",
                "worker {{worker}}",
                "bytes",
                words="Beside its limit, fairlead_gateway_memory_limit_bytes.",
            ),
            _graph(
                "Waiting of stream events",
                "fairlead_gateway_batching_seconds",
                "worker {{worker}}",
                "s",
                words="Not 0 for long: there is work for another worker.",
            ),
            _graph(
                "Snapshot",
                "fairlead_gateway_snapshot_version",
                "worker {{worker}}",
                words="Workers that stay behind do not reach control.",
            ),
            _graph(
                "Limits used",
                "sum by (limit) (fairlead_gateway_limit_used)"
                " / max by (limit) (fairlead_gateway_limit)",
                "{{limit}}",
                "percentunit",
                words="Of the present window of each.",
            ),
        ),
    )


def _records() -> Row:
    return Row(
        "Records",
        (
            Panel(
                "Written and taken in",
                (
                    Query(_rate("fairlead_spool_records_total"), "written by the gateway"),
                    Query(_rate("fairlead_observer_records_total", "kind"), "taken in: {{kind}}"),
                ),
                "cps",
            ),
            Panel(
                "Behind",
                (
                    Query("fairlead_observer_lag_seconds", "store"),
                    Query("fairlead_observer_archive_lag_seconds", "telemetry store"),
                ),
                "s",
                words="Verdicts and alerts see nothing younger.",
            ),
            Panel(
                "In the spool",
                (Query("fairlead_observer_spool_bytes"),),
                "bytes",
                words="Grows without end: a store does not take records.",
            ),
            Panel(
                "Trouble",
                (
                    Query(_rate("fairlead_spool_write_errors_total"), "writes refused"),
                    Query(_rate("fairlead_spool_lost_records_total"), "records lost"),
                    Query(_rate("fairlead_observer_failures_total"), "store refused"),
                    Query(_rate("fairlead_observer_damaged_frames_total"), "damaged"),
                ),
                "cps",
            ),
        ),
    )


def _control() -> Row:
    turn = f"sum by (le) (rate(fairlead_control_turn_seconds_bucket[{WINDOW}]))"
    return Row(
        "Control and alerts",
        (
            Panel(
                "A turn of the loop",
                (
                    Query(f"histogram_quantile(0.5, {turn})", "p50"),
                    Query(f"histogram_quantile(0.99, {turn})", "p99"),
                    Query("fairlead_control_turn_age_seconds", "since the last"),
                ),
                "s",
            ),
            _graph(
                "Turns that failed",
                f'rate(fairlead_control_turns_total{{outcome="failed"}}[{WINDOW}])',
                "failed",
                "cps",
                words="A part was refused (store, disk) and is tried again.",
            ),
            _graph(
                "Calls to control that failed",
                _rate("fairlead_gateway_sync_failures_total"),
                "workers",
                "cps",
            ),
            _graph(
                "Alerts",
                'sum by (severity, monitor) (fairlead_alerts{state="firing"})',
                "{{severity}} {{monitor}}",
            ),
            _graph(
                "Messages",
                _rate("fairlead_notifications_total", "receiver, outcome"),
                "{{receiver}} {{outcome}}",
                "cps",
                words="failed: alerts do not reach somebody.",
            ),
            _graph(
                "Oldest sample that waits for a judge model",
                "fairlead_judge_oldest_seconds",
                "{{service}}",
                "s",
            ),
        ),
    )
