"""What the gateway finds in the text of an answer, where a service declares that it should look."""

from __future__ import annotations

from fairlead.rollout.metrics import MetricKind
from fairlead.rollout.sources.source import Source, known

SOURCES = (
    Source("refusal", MetricKind.BINARY, lambda request: known(request.refused), fact="refusal"),
    # Only those that asked for JSON have a format to keep, and the gateway says of all of them
    # whether they kept it, also where there was no answer. With `source: json` all have.
    Source(
        "format",
        MetricKind.BINARY,
        lambda request: known(request.malformed),
        applies=lambda request: request.malformed >= 0,
        fact="format",
    ),
    # Also what was blocked counts, the prompts of which have no answer.
    Source(
        "guardrail_hits",
        MetricKind.BINARY,
        lambda request: float(request.guardrail_hits > 0) if request.guardrail_hits >= 0 else None,
        of_all=True,
    ),
    Source("json", MetricKind.BINARY, lambda request: known(request.malformed), fact="json"),
)
