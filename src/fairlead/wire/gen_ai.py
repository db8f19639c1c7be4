"""Words of OpenTelemetry's semantic conventions for generative AI, which metrics and traces use.

https://github.com/open-telemetry/semantic-conventions-genai (status: development, November 2026)
"""

from __future__ import annotations

PROVIDER = "fairlead"
"""Who answers, as a client sees it; the conventions have no name for a gateway of one's own."""

_OPERATIONS = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "responses": "chat",
    "messages": "chat",
}


def operation_of(endpoint: str) -> str:
    """`gen_ai.operation.name` of a record's endpoint; the endpoint where there is none."""
    return _OPERATIONS.get(endpoint, endpoint)
