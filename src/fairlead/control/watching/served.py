"""A service, as its watching needs to know it."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.monitoring.declared import Declared
from fairlead.probing.bias_model import Segment


class Served(NamedTuple):
    """A service as it is now.

    Attributes:
        champion: Digest of the release that serves; empty for none.
        has_texts: Whether a sample of prompts or answers is kept.
        segments: Users who are compared with all others.
        request_timeout_s: How long a request may take; what is open keeps the watermark back.
    """

    name: str
    champion: str
    declared: Declared
    has_texts: bool = False
    segments: tuple[Segment, ...] = ()
    request_timeout_s: float = 120.0
