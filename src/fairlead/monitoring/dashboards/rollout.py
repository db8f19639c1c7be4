"""The dashboard of a rollout: champion and canary side by side."""

from __future__ import annotations

from fairlead.monitoring.dashboards.building import Dashboard, Panel, Query, Row, Unit, Variable
from fairlead.monitoring.dashboards.phrases import (
    COST,
    DURATION,
    FAILED,
    ITL,
    REQUESTS,
    TOKENS,
    TTFT,
    WINDOW,
    share,
)

_SERVICE = 'service="$service"'
_INFO = f"fairlead_release_info{{{_SERVICE}}}"
_LEGEND = "{{arm}} {{name}}"


def rollout_dashboard() -> Dashboard:
    """See the head of this file."""
    return Dashboard(
        uid="fairlead-rollout",
        title="fairlead: rollout",
        words="The releases of a service that are in use now, side by side. Differences here are "
        "what one sees, not evidence: the verdict is the judge's (fairlead rollout show).",
        variables=(Variable("service", REQUESTS, "service"),),
        rows=(_split(), _outcomes(), _speed()),
    )


def _by_arm(expr: str) -> Query:
    """By release, with the release's arm and name."""
    return Query(f"({expr}) * on (service, release) group_left (arm, name) {_INFO}", _LEGEND)


def _rate(metric: str, where: str = "") -> str:
    selector = f"{metric}{{{_SERVICE}{where}}}"
    return f"sum by (service, release) (rate({selector}[{WINDOW}]))"


def _quantile(q: float, histogram: str) -> str:
    buckets = f"sum by (service, release, le) (rate({histogram}_bucket{{{_SERVICE}}}[{WINDOW}]))"
    return f"histogram_quantile({q:g}, {buckets})"


def _split() -> Row:
    return Row(
        "Who gets what",
        (
            Panel(
                "Share of users",
                (Query(f"fairlead_release_share{{{_SERVICE}}}", "{{arm}} {{release}}"),),
                "percentunit",
                at_most=1,
                words="By the split that is in force; copies for a shadow are no share.",
            ),
            Panel("Requests", (_by_arm(_rate(REQUESTS)),), "reqps", words="Each arm's own."),
            Panel(
                "Rollouts by state",
                (Query(f"fairlead_rollouts{{{_SERVICE}}} > 0", "{{state}}"),),
                words="All that are kept; one that goes on moves from state to state.",
            ),
            Panel(
                "Replicas",
                (
                    Query(
                        f"fairlead_replicas{{{_SERVICE}}}"
                        f" * on (service, release) group_left (arm, name) {_INFO}",
                        "{{arm}} {{name}} {{state}}",
                    ),
                ),
                words="A canary gets no traffic before its replicas are ready.",
            ),
            Panel(
                "Samples that wait for the judge model",
                (Query(f"fairlead_judge_pending{{{_SERVICE}}}", "{{rollout}}"),),
                words="Where a judge model grades answers, the rollout waits for it.",
            ),
            Panel(
                "Copies for a shadow",
                (
                    Query(
                        "sum by (release, outcome) (rate(fairlead_gateway_shadow_requests_total"
                        f"{{{_SERVICE}}}[{WINDOW}]))",
                        "{{release}} {{outcome}}",
                    ),
                ),
                "cps",
            ),
        ),
    )


def _outcomes() -> Row:
    answered = _rate(TOKENS, ',kind="completion"')

    def panel(title: str, expr: str, unit: Unit, words: str = "") -> Panel:
        return Panel(title, (_by_arm(expr),), unit, words=words)

    return Row(
        "Outcomes",
        (
            panel("Failed", share(_rate(FAILED), _rate(REQUESTS)), "percentunit"),
            panel("Tokens of an answer", share(answered, _rate(REQUESTS)), "short"),
            panel(
                "Cost of a request",
                share(_rate(COST), _rate(REQUESTS)),
                "currencyUSD",
                "Where a price is declared.",
            ),
        ),
    )


def _speed() -> Row:
    shown = (("Time to first token", TTFT), ("Between tokens", ITL), ("Whole answer", DURATION))
    return Row(
        "Speed",
        tuple(
            Panel(f"{title}, p{q * 100:g}", (_by_arm(_quantile(q, histogram)),), "s")
            for q in (0.5, 0.95)
            for title, histogram in shown
        ),
    )
