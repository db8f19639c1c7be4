"""The dashboard of a service: what its users get, and whether its promises hold."""

from __future__ import annotations

from fairlead.monitoring.dashboards.building import Dashboard, Panel, Query, Row, Variable
from fairlead.monitoring.dashboards.phrases import (
    COST,
    DURATION,
    FAILED,
    ITL,
    REQUESTS,
    SERVICE,
    TOKENS,
    TTFT,
    quantile,
    rate,
    share,
)

_BY_RELEASE = ("service", "release")
_LEGEND = "{{service}} {{release}}"


def service_dashboard() -> Dashboard:
    """See the head of this file."""
    return Dashboard(
        uid="fairlead-service",
        title="fairlead: service",
        words="Traffic, errors, latency, tokens, cost and error budgets of services.",
        variables=(Variable("service", REQUESTS, "service", several=True),),
        rows=(_traffic(), _latency(), _tokens(), _promises(), _resilience()),
    )


def _traffic() -> Row:
    failed = share(rate(FAILED, _BY_RELEASE), rate(REQUESTS, _BY_RELEASE))
    available = share(rate(FAILED, ("service",)), rate(REQUESTS, ("service",)))
    return Row(
        "Traffic and errors",
        (
            Panel(
                "Requests",
                (Query(rate(REQUESTS, _BY_RELEASE), _LEGEND),),
                "reqps",
                stacked=True,
                words="Requests answered, by the release that answered.",
            ),
            Panel(
                "Failed by the server",
                (Query(failed, _LEGEND),),
                "percentunit",
                words="Share of requests that the server failed: 5xx, no room, broken answers.",
            ),
            Panel(
                "Availability",
                (Query(f"1 - {available}", "{{service}}"),),
                "percentunit",
                "stat",
                at_most=1,
                words="Share of requests that the server did not fail.",
            ),
            Panel(
                "Answers by status",
                (Query(rate(REQUESTS, ("service", "code")), "{{service}} {{code}}"),),
                "reqps",
                words="499: the client left before its answer was complete.",
            ),
            Panel(
                "Errors by code",
                (
                    Query(
                        rate("fairlead_gateway_request_errors_total", ("service", "error")),
                        "{{service}} {{error}}",
                    ),
                ),
                "cps",
            ),
            Panel(
                "Refused by the gateway",
                (Query(rate("fairlead_gateway_rejected_total", ("reason",), ""), "{{reason}}"),),
                "cps",
                words="Before they reached a service: keys, limits, bad requests. Of all services.",
            ),
        ),
    )


def _latency() -> Row:
    def panel(title: str, histogram: str, words: str) -> Panel:
        queries = tuple(
            Query(quantile(q, histogram, ("service",)), f"{{{{service}}}} p{q * 100:g}")
            for q in (0.5, 0.95, 0.99)
        )
        return Panel(title, queries, "s", words=words)

    return Row(
        "Latency",
        (
            panel("Time to first token", TTFT, "From the request's last byte, of streams."),
            panel("Between tokens", ITL, "Mean of each stream."),
            panel("Whole answer", DURATION, "From the request's last byte to the answer's."),
            panel(
                "Waiting for a slot",
                "fairlead_gateway_queue_wait_seconds",
                "Of those that waited: more of them, or longer, means too few replicas.",
            ),
        ),
    )


def _tokens() -> Row:
    cost = share(rate(COST, _BY_RELEASE), rate(REQUESTS, _BY_RELEASE))
    return Row(
        "Tokens and cost",
        (
            Panel(
                "Tokens",
                (Query(rate(TOKENS, ("service", "kind")), "{{service}} {{kind}}"),),
                "cps",
                words="As the engines report them.",
            ),
            Panel(
                "Cost of an hour",
                (Query(f"3600 * {rate(COST, _BY_RELEASE)}", _LEGEND),),
                "currencyUSD",
                stacked=True,
                words="By the price of the release that answered, where it is declared.",
            ),
            Panel("Cost of a request", (Query(cost, _LEGEND),), "currencyUSD"),
        ),
    )


def _promises() -> Row:
    burn = f'{{__name__=~"service:fairlead_slo_burn_rate:.+", {SERVICE}}}'
    left = f'{{__name__=~"service:fairlead_slo_budget_left:.+", {SERVICE}}}'
    return Row(
        "Promises",
        (
            Panel(
                "Burn rate of error budgets",
                (Query(burn, "{{service}} {{slo}} {{__name__}}"),),
                width=12,
                words="1: the budget is used up just at the end of its period. Needs the rules of "
                "`fairlead monitor rules`.",
            ),
            Panel(
                "Budget left",
                (Query(left, "{{service}} {{slo}}"),),
                "percentunit",
                width=12,
                at_least=None,
                at_most=1,
                words="Of the period. Below 0 the promise is broken.",
            ),
        ),
    )


def _resilience() -> Row:
    def panel(title: str, what: str, by: str, words: str) -> Panel:
        metric = f"fairlead_gateway_{what}_total"
        return Panel(
            title,
            (Query(rate(metric, ("service", by)), f"{{{{service}}}} {{{{{by}}}}}"),),
            "cps",
            words=words,
        )

    return Row(
        "What the gateway made up for",
        (
            panel("Retries", "retries", "reason", "Attempts on a replica that failed unseen."),
            panel("Fallbacks", "fallbacks", "fallback", "Answered by another service."),
            Panel(
                "Streams continued",
                (
                    Query(
                        rate("fairlead_gateway_streams_continued_total", ("service",)),
                        "{{service}}",
                    ),
                ),
                "cps",
                words="Broken streams that another replica went on with.",
            ),
        ),
    )
