"""The metrics of one worker: what each of them is called."""

from __future__ import annotations

from fairlead.gateway.records.gen_ai import DURATION, ERROR_TYPE, TOKEN_BUCKETS, TOKEN_USAGE
from fairlead.gateway.records.metric_families import Family, FamilyState, Labels
from fairlead.gateway.records.tallies import DURATION_BUCKETS_S, Tallies

TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class GatewayMetrics:
    """All metrics of one worker; `tallies` is what finished requests are counted by."""

    def __init__(self) -> None:
        self._declare_outcomes(("service", "release"))
        self._declare_copies(("service", "release"))
        self._declare_attempts()
        self._declare_times(("service", "release", "operation"))
        self._declare_spool()
        self._declare_gauges()
        self._declare_limits()
        self._declare_memory()
        self.tallies = Tallies(self)

    def _declare_outcomes(self, route: Labels) -> None:
        self.requests = Family(
            "fairlead_gateway_requests_total",
            "counter",
            "Requests answered for a service, by release and HTTP status (499: client left).",
            (*route, "code"),
        )
        self.errors = Family(
            "fairlead_gateway_request_errors_total",
            "counter",
            "Requests of a service that ended with an error, by its machine code.",
            (*route, "error"),
        )
        self.failed = Family(
            "fairlead_gateway_requests_failed_total",
            "counter",
            "Requests of a service that the server failed: 5xx, no room (429), broken answers.",
            route,
        )
        self.cost = Family(
            "fairlead_gateway_cost_usd_total",
            "counter",
            "USD that answers cost, by the price of the release that gave them, where it is known.",
            route,
        )
        self.tokens = Family(
            "fairlead_gateway_tokens_total",
            "counter",
            "Tokens as the engine reports them.",
            (*route, "kind"),
        )
        self.guardrails = Family(
            "fairlead_gateway_guardrail_hits_total",
            "counter",
            "Requests of a service that hit a guardrail, by its name and whether it ended them.",
            (*route, "guardrail", "blocked"),
        )
        self.rejected = Family(
            "fairlead_gateway_rejected_total",
            "counter",
            "Requests refused by the gateway itself, by reason.",
            ("reason",),
        )
        self.feedback = Family(
            "fairlead_gateway_feedback_total", "counter", "Feedback taken, by name.", ("name",)
        )
        self.sync_failures = Family(
            "fairlead_gateway_sync_failures_total",
            "counter",
            "Calls to the control plane for a newer snapshot that failed.",
        )

    def _declare_copies(self, route: Labels) -> None:
        self.shadows = Family(
            "fairlead_gateway_shadow_requests_total",
            "counter",
            "Requests of which a copy was due to a shadow release, by what became of the copy: "
            "answered, blocked (by a guardrail of the release), failed, dropped (no free slot) or "
            "ended (its slot or answer not wanted).",
            (*route, "outcome"),
        )
        self.shadow_guardrails = Family(
            "fairlead_gateway_shadow_guardrail_hits_total",
            "counter",
            "Copies for a shadow release that hit one of its guardrails, by its name and whether "
            "it ended them.",
            (*route, "guardrail", "blocked"),
        )

    def _declare_attempts(self) -> None:
        self.retries = Family(
            "fairlead_gateway_retries_total",
            "counter",
            "Attempts on a replica that failed before anything was sent to the client.",
            ("service", "reason"),
        )
        self.retries_refused = Family(
            "fairlead_gateway_retries_refused_total",
            "counter",
            "Retries and hedges that the service's retry budget did not allow.",
            ("service",),
        )
        self.fallbacks = Family(
            "fairlead_gateway_fallbacks_total",
            "counter",
            "Requests that went on to another service, because their own could not serve them.",
            ("service", "fallback"),
        )
        self.hedges = Family(
            "fairlead_gateway_hedges_total",
            "counter",
            "Second attempts beside a slow first one, by which of them was answered: won or lost.",
            ("service", "outcome"),
        )
        self.streams_continued = Family(
            "fairlead_gateway_streams_continued_total",
            "counter",
            "Broken streams that another replica went on with.",
            ("service",),
        )

    def _declare_times(self, route: Labels) -> None:
        self.duration = Family(
            DURATION,
            "histogram",
            "Time from the request's last byte to the answer's last byte.",
            (*route, ERROR_TYPE),
            DURATION_BUCKETS_S,
        )
        self.ttft = Family(
            "fairlead_gateway_time_to_first_token_seconds",
            "histogram",
            "Time from the request's last byte to the first event of a stream.",
            route,
            DURATION_BUCKETS_S,
        )
        self.itl = Family(
            "fairlead_gateway_inter_token_latency_seconds",
            "histogram",
            "Mean time between the events of a stream.",
            route,
            TOKEN_BUCKETS_S,
        )
        self.token_usage = Family(
            TOKEN_USAGE,
            "histogram",
            "Tokens of a request, as the engine reports them.",
            (*route, "token_type"),
            TOKEN_BUCKETS,
        )
        self.queue_wait = Family(
            "fairlead_gateway_queue_wait_seconds",
            "histogram",
            "Time that a request waited for a free slot, of those that waited.",
            ("service",),
            DURATION_BUCKETS_S,
        )

    def _declare_spool(self) -> None:
        self.spool_records = Family(
            "fairlead_spool_records_total", "counter", "Records written to the spool."
        )
        self.spool_bytes = Family(
            "fairlead_spool_bytes_total", "counter", "Bytes of records written to the spool."
        )
        self.spool_write_errors = Family(
            "fairlead_spool_write_errors_total", "counter", "Writes that the disk refused."
        )
        self.spool_lost = Family(
            "fairlead_spool_lost_records_total",
            "counter",
            "Records given up because the spool could not be written.",
        )

    def _declare_gauges(self) -> None:
        self.open_requests = Family(
            "fairlead_gateway_open_requests", "gauge", "Requests not yet answered.", ("worker",)
        )
        self.connections = Family(
            "fairlead_gateway_connections", "gauge", "Client connections.", ("worker",)
        )
        self.batching = Family(
            "fairlead_gateway_batching_seconds",
            "gauge",
            "How long events of streams wait for each other, because the worker is close to what "
            "it can do; 0 for not at all.",
            ("worker",),
        )
        self.queue_depth = Family(
            "fairlead_gateway_queue_depth",
            "gauge",
            "Requests that wait for a free slot.",
            ("service", "worker"),
        )
        self.snapshot_version = Family(
            "fairlead_gateway_snapshot_version",
            "gauge",
            "Version of the snapshot that the worker runs on; 0 for none.",
            ("worker",),
        )

    def _declare_limits(self) -> None:
        self.limit_used = Family(
            "fairlead_gateway_limit_used",
            "gauge",
            "What a worker has used of a limit in its present window, in requests, tokens or USD.",
            ("limit", "worker"),
        )
        self.limit_held = Family(
            "fairlead_gateway_limit_held",
            "gauge",
            "What a worker may use of a limit in its present window, all told.",
            ("limit", "worker"),
        )
        self.limit_amount = Family(
            "fairlead_gateway_limit",
            "gauge",
            "The limit itself, as each worker knows it.",
            ("limit", "worker"),
        )
        self.usage_estimated = Family(
            "fairlead_gateway_usage_estimated_total",
            "counter",
            "Answers under a limit whose usage the engine did not report; it was estimated.",
            ("service",),
        )

    def _declare_memory(self) -> None:
        self.memory_resident = Family(
            "fairlead_gateway_memory_resident_bytes",
            "gauge",
            "Resident memory of a worker.",
            ("worker",),
        )
        self.memory_ceiling = Family(
            "fairlead_gateway_memory_limit_bytes",
            "gauge",
            "Resident memory that a worker may have.",
            ("worker",),
        )
        self.memory_level = Family(
            "fairlead_gateway_memory_level",
            "gauge",
            "How near a worker's memory is to its limit: 0 calm, 1 strained, 2 full.",
            ("worker",),
        )
        self.memory_shed = Family(
            "fairlead_gateway_memory_shed_total",
            "counter",
            "Connections ended because memory was short: idle, receiving (a body), stalled (not "
            "reading its answer).",
            ("kind",),
        )

    def states(self) -> list[FamilyState]:
        """All families with their values."""
        families = (value for value in vars(self).values() if isinstance(value, Family))
        return [family.state() for family in families]
