"""Whether the texts come that a service says are kept, and which monitors have none to see.

The sample is a matter of the request's unit alone (`fairlead.domain.capture`): it is known of each
request whether its texts were to be kept. A bound of samples in a minute lets at least one of each
minute through. So many answered requests of the sample over `WAIT_S` without any text are no
chance: nobody keeps them, or nobody brings them, and the monitors of texts are blind.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from fairlead.domain.capture import Capture, is_captured
from fairlead.domain.recorded import RecordedRequest
from fairlead.gateway.requests.request_body import EMBEDDINGS

DUE_MIN = 20
WAIT_S = 120.0
_OK = 200

TEXTS = {
    "drift": ("prompt",),
    "answer_drift": ("answer",),
    "repetition": ("answer",),
    "language": ("prompt", "answer"),
    "injection": ("prompt",),
}
"""Monitors of texts, and of which texts each is; of one of them, where there are two."""


class Due(msgspec.Struct):
    """Requests of the sample since its last text: how many, and the first and last of them."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def add(self, at: float) -> None:
        """A request at this Unix time whose texts are to come."""
        if not self.count:
            self.first = at
        self.count, self.last = self.count + 1, at

    @property
    def missing(self) -> int:
        """Of how many requests no text has come that should have; 0 where that may be chance."""
        is_long = self.last - self.first >= WAIT_S
        return self.count if self.count >= DUE_MIN and is_long else 0


def is_due(capture: Capture | None, request: RecordedRequest) -> bool:
    """Whether texts of this request are to be kept."""
    return (
        capture is not None
        and request.status == _OK
        and request.endpoint != EMBEDDINGS
        and is_captured(capture, request.unit)
    )


def unseen(capture: Capture | None, off: Collection[str]) -> dict[str, str]:
    """The monitors that are not turned off and have no texts to see, and why."""
    if capture is None:
        kept, why = set[str](), "no `capture` is declared"
    else:
        texts = (("prompt", capture.prompts), ("answer", capture.answers))
        kept = {text for text, is_kept in texts if is_kept}
        why = "`capture` keeps no {}s"
    return {
        name: "not watched: " + why.format(texts[0])
        for name, texts in TEXTS.items()
        if name not in off and not kept.intersection(texts)
    }
