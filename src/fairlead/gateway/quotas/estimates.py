"""What a request is likely to use of limits on tokens and money."""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.gateway.requests.dialects import RESPONSES
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.wire.snapshot import ReleaseRoute

BYTES_PER_TOKEN = 4
COMPLETION_TOKENS = 256
"""Reserved for an answer where neither the client nor the release says how long it may be."""
TOKENS_MAX = 10_000_000


class _Sizes(msgspec.Struct):
    """What a client says of the size of the answer; whatever it is, the engine judges it."""

    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    n: object = None


_sizes = msgspec.json.Decoder(_Sizes)


def estimate(kind: str, body: bytes, route: ReleaseRoute | None) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the answer; and whether the client asked for so many."""
    prompt = len(body) // BYTES_PER_TOKEN + 1
    if kind == EMBEDDINGS:
        return prompt, 0, True
    try:
        sizes = decode_with(_sizes, body)
    except msgspec.DecodeError:
        sizes = _Sizes()
    if kind == RESPONSES:
        asked = _count(sizes.max_output_tokens)
    else:
        asked = _count(sizes.max_completion_tokens) or _count(sizes.max_tokens)
    usual = 0
    if route is not None:
        given = route.sampling
        usual = _count(given.get("max_completion_tokens")) or _count(given.get("max_tokens"))
    each = asked or usual or COMPLETION_TOKENS
    return prompt, min(TOKENS_MAX, each * (_count(sizes.n) or 1)), asked > 0


def _count(value: object) -> int:
    """A positive whole number; 0 for anything else."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return min(value, TOKENS_MAX) if is_count and isinstance(value, int) else 0
