"""The gateway's histograms under the names of OpenTelemetry's conventions for generative AI.

They are the same numbers, so they are counted once, and made into the others when they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from fairlead.gateway.records.metric_families import FamilyState
from fairlead.wire.gen_ai import PROVIDER

NAMES = {
    "fairlead_gateway_request_duration_seconds": "gen_ai_server_request_duration_seconds",
    "fairlead_gateway_time_to_first_token_seconds": "gen_ai_server_time_to_first_token_seconds",
    "fairlead_gateway_inter_token_latency_seconds": "gen_ai_server_time_per_output_token_seconds",
}
LABELS = {
    "service": "gen_ai_request_model",
    "release": "gen_ai_response_model",
    "operation": "gen_ai_operation_name",
}


def with_gen_ai(states: Sequence[FamilyState]) -> Iterator[FamilyState]:
    """All of them, and those that the conventions have a name for under that one, too."""
    yield from states
    for state in states:
        if state.name in NAMES:
            yield msgspec.structs.replace(
                state,
                name=NAMES[state.name],
                labels=(*(LABELS[label] for label in state.labels), "gen_ai_provider_name"),
                series=[((*labels, PROVIDER), values) for labels, values in state.series],
            )
