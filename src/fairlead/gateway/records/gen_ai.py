"""The gateway's histograms under the names of OpenTelemetry's conventions for generative AI.

They are the same numbers, so they are counted once, and made into the others when they are shown.
How long requests took is counted by the kind of failure, which the gateway's own name leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from fairlead.gateway.records.metric_families import FamilyState, Labels
from fairlead.wire.gen_ai import PROVIDER

DURATION = "fairlead_gateway_request_duration_seconds"
TOKEN_USAGE = "gen_ai_client_token_usage"  # noqa: S105 - of a language model
"""Shown under this name alone: a request's tokens are also counted, by a name of the gateway's."""
NAMES = {
    DURATION: "gen_ai_server_request_duration_seconds",
    "fairlead_gateway_time_to_first_token_seconds": "gen_ai_server_time_to_first_token_seconds",
    "fairlead_gateway_inter_token_latency_seconds": "gen_ai_server_time_per_output_token_seconds",
    TOKEN_USAGE: TOKEN_USAGE,
}
ERROR_TYPE = "error_type"
"""Why the server failed a request; empty where it did not."""
LABELS = {
    "service": "gen_ai_request_model",
    "release": "gen_ai_response_model",
    "operation": "gen_ai_operation_name",
    "token_type": "gen_ai_token_type",
    ERROR_TYPE: ERROR_TYPE,
}
TOKEN_BUCKETS = tuple(4.0**power for power in range(14))
"""Of the conventions: 1, 4, 16 ... 67,108,864."""


def with_gen_ai(states: Sequence[FamilyState]) -> Iterator[FamilyState]:
    """All of them, and those that the conventions have a name for under that one, too."""
    for state in states:
        if state.name == DURATION:
            yield _without(state, ERROR_TYPE)
        elif state.name != TOKEN_USAGE:
            yield state
    for state in states:
        if state.name in NAMES:
            yield msgspec.structs.replace(
                state,
                name=NAMES[state.name],
                labels=(*(LABELS[label] for label in state.labels), "gen_ai_provider_name"),
                series=[((*labels, PROVIDER), values) for labels, values in state.series],
            )


def _without(state: FamilyState, label: str) -> FamilyState:
    """Summed over the values of a label."""
    if label not in state.labels:  # Of a worker of another version of fairlead.
        return state
    at = state.labels.index(label)
    sums: dict[Labels, list[float]] = {}
    for labels, values in state.series:
        left = (*labels[:at], *labels[at + 1 :])
        before = sums.get(left)
        sums[left] = (
            values if before is None else [a + b for a, b in zip(before, values, strict=True)]
        )
    return msgspec.structs.replace(
        state, labels=(*state.labels[:at], *state.labels[at + 1 :]), series=list(sums.items())
    )
