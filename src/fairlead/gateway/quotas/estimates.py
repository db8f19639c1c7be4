"""What a request is likely to use of limits on tokens and money."""

from __future__ import annotations

from fairlead.gateway.quotas.sizes import sizes_of
from fairlead.gateway.requests.dialects import RESPONSES
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.wire.snapshot import ReleaseRoute

BYTES_PER_TOKEN = 4
COMPLETION_TOKENS = 256
"""Reserved for an answer where neither the client nor the release says how long it may be."""
TOKENS_MAX = 10_000_000


def estimate(kind: str, body: bytes, route: ReleaseRoute | None) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the answer; and whether the client asked for so many."""
    prompt = len(body) // BYTES_PER_TOKEN + 1
    if kind == EMBEDDINGS:
        return prompt, 0, True
    asked, count = _asked(kind, body)
    usual = 0
    if not asked and route is not None and route.sampling:
        given = route.sampling
        usual = _count(given.get("max_completion_tokens")) or _count(given.get("max_tokens"))
    each = asked or usual or COMPLETION_TOKENS
    return prompt, min(TOKENS_MAX, each * count), asked > 0


def _asked(kind: str, body: bytes) -> tuple[int, int]:
    """How many tokens the client asks for, 0 if it does not say, and how many answers."""
    sizes = sizes_of(body)
    if kind == RESPONSES:
        asked = _count(sizes.max_output_tokens)
    else:
        asked = _count(sizes.max_completion_tokens) or _count(sizes.max_tokens)
    return asked, _count(sizes.n) or 1


def _count(value: object) -> int:
    """A positive whole number; 0 for anything else."""
    if type(value) is not int or value <= 0:
        return 0
    return min(value, TOKENS_MAX)
