"""A service, as its watching needs to know it."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.domain.capture import Capture
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.judged import Grading
from fairlead.probing.bias_model import Segment


class Served(NamedTuple):
    """A service as it is now.

    Attributes:
        champion: Digest of the release that serves; empty for none.
        capture: Which sample of prompts and answers is kept; None for none.
        segments: Users who are compared with all others.
        feedback: What clients say of answers that is declared, and from which value on it is good.
        grading: How scores of its judge model are read; None without one.
        rollout_judge: Identity of the judge model of the rollout under way; empty without one.
        judge_blindness: Why no verdicts come that should; empty while they do.
        embedding_release: Digest of the release that makes the vectors by which drift goes, where a
            service of this installation is declared for that; empty for none.
        is_remote: Whether the model of the champion is a provider's.
        request_timeout_s: How long a request may take; what is open keeps the watermark back.
    """

    name: str
    champion: str
    declared: Declared
    capture: Capture | None = None
    segments: tuple[Segment, ...] = ()
    feedback: tuple[tuple[str, float], ...] = ()
    request_timeout_s: float = 120.0
    grading: Grading | None = None
    judge_blindness: str = ""
    rollout_judge: str = ""
    embedding_release: str = ""
    is_remote: bool = False

    @property
    def watched_by(self) -> object:
        """What the monitors of its releases are made from; another one makes others."""
        declared, kept = self.declared, self.capture
        texts = None if kept is None else (kept.prompts, kept.answers)
        compared = self.segments, self.feedback if self.segments else ()
        vectors = declared.embeddings, self.embedding_release
        return texts, compared, declared.monitors, declared.texts, self.grading, vectors
