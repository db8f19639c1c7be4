"""A release's texts once there is a reference: what they are compared with, and the last of them.

Needs numpy: import it where a monitor is made, not where a process starts.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from fairlead.domain.decoding import convert
from fairlead.domain.errors import Unavailable
from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder, Matrix
from fairlead.monitoring.monitors.gathered_texts import Gathered
from fairlead.monitoring.monitors.interface import Document
from fairlead.monitoring.monitors.kept_texts import KeptText, RecentTexts
from fairlead.monitoring.monitors.of_release import stored_since
from fairlead.monitoring.monitors.topics import (
    WORDS_MAX,
    Explained,
    Explanation,
    explain,
    usual_words,
)
from fairlead.stats.drift.cause import Channel
from fairlead.stats.drift.monitor import DriftMonitor, Sensitivity
from fairlead.stats.drift.reference import Reference, fit
from fairlead.stats.drift.stored import from_bytes, to_bytes

CALM = 0.5
"""With more of what an alarm needs (as logarithms) a change is suspected."""


@dataclass
class WatchedTexts:
    """See the head of this file.

    Attributes:
        stored: The reference, as it is kept.
        usual: In how many texts of the reference each word is.
        alarm_at: The logarithm of the evidence that is an alarm.
        gathered: What a larger reference will be made of; None where this one is for good.
        before: How many texts were watched against a smaller one.
        kept_first: Why no larger one was made of what was gathered; empty if nothing was wrong.
        began: Unix time about which the change of each open alarm began.
        learnt_since: Unix time of the first text of the reference; None if not known.
    """

    reference: Reference
    stored: str
    usual: Counter[str]
    monitor: DriftMonitor
    alarm_at: float
    gathered: Gathered | None = None
    before: int = 0
    kept_first: str = ""
    recent: RecentTexts = field(default_factory=RecentTexts)
    began: dict[Channel, float] = field(default_factory=dict)
    explained: dict[Channel, Explained] = field(default_factory=dict)
    learnt_since: float | None = None

    @classmethod
    def learnt(
        cls, texts: Sequence[KeptText], vectors: Matrix, run_length: float, before: int = 0
    ) -> WatchedTexts:
        """With these texts as the reference. Raises ValueError where they teach nothing."""
        reference = fit(vectors)
        return cls(
            reference,
            base64.b64encode(to_bytes(reference)).decode(),
            usual_words([each.text for each in texts]),
            DriftMonitor(reference, Sensitivity(run_length)),
            math.log(run_length),
            before=before,
            learnt_since=min(each.at for each in texts),
        )

    @property
    def seen(self) -> int:
        """Texts that were watched so far."""
        return self.before + self.monitor.seen

    @property
    def is_calm(self) -> bool:
        """Whether there is no alarm, and no change is suspected."""
        return not self.monitor.open and self.monitor.log_evidence <= CALM * self.alarm_at

    def see(self, texts: Sequence[KeptText], embedder: Embedder) -> None:
        """Watch the next ones; raises what the embedder raises, and has taken in none then."""
        self.monitor.update(embedder.embed([each.text for each in texts]))
        self.recent.add(texts)
        if self.gathered is not None:
            self.gathered.see(texts, self.monitor.joined, self.monitor.waiting)
        opened = self.monitor.open
        self.began = {
            channel: self.began.get(channel) or self.recent.time_of(changed_at)
            for channel, changed_at in opened.items()
        }
        self.explained = {
            channel: each for channel, each in self.explained.items() if channel in opened
        }

    def explanation(self, channel: Channel, embedder: Embedder) -> Explanation:
        """What is known by now of an open alarm: more than when it came.

        It is looked for again when twice as many texts have come since the change: it takes some
        50 ms, and this is asked at every look.
        """
        changed_at = self.monitor.open[channel]
        texts = self.monitor.seen - changed_at
        known = self.explained.get(channel)
        if known is None or known.changed_at != changed_at or texts >= 2 * known.texts:
            cause = self.monitor.cause(channel, changed_at)
            try:
                told = explain(cause, self.recent, embedder, self.usual)
            except Unavailable:  # what is made by spelling alone is not kept
                if known is not None and known.changed_at == changed_at:
                    return known.told
                return explain(cause, self.recent, HashedNgrams(), self.usual)
            known = self.explained[channel] = Explained(changed_at, max(texts, 1), told)
        return known.told

    def kept(self) -> list[KeptText]:
        """All texts that it keeps; what was forgotten has no id."""
        made_from = [text for each in self.explained.values() for text in each.made_from()]
        gathered = self.gathered.all() if self.gathered is not None else []
        return [*self.recent.all(), *made_from, *gathered]

    def forget(self, ids: Collection[str]) -> None:
        """Drop the texts of these requests, and explanations that have one of them."""
        self.recent.forget(ids)
        if self.gathered is not None:
            self.gathered.forget(ids)
        self.explained = {
            channel: each
            for channel, each in self.explained.items()
            if not any(text.id in ids for text in each.made_from())
        }

    def state(self) -> Document:
        """Everything that `restored` needs; the reference as bytes in base64."""
        return {
            "reference": self.stored,
            "usual": dict(self.usual),
            "monitor": self.monitor.state(),
            "gathered": None if self.gathered is None else self.gathered.stored(),
            "before": self.before,
            "kept_first": self.kept_first,
            "recent": self.recent.stored(),
            "began": dict(self.began),
            "explained": msgspec.to_builtins(self.explained),
            "learnt_since": self.learnt_since,
        }

    @classmethod
    def restored(cls, kept: Document, run_length: float) -> WatchedTexts:
        """From what `state` made. Raises ValueError, or LookupError and TypeError, if damaged."""
        try:
            reference = from_bytes(base64.b64decode(kept["reference"], validate=True))
        except binascii.Error as error:
            raise ValueError(f"stored reference: {error}") from error
        usual = Counter[str](kept["usual"])
        if len(usual) > WORDS_MAX or not all(isinstance(n, int) and n > 0 for n in usual.values()):
            raise ValueError("stored words: must be at most 5,000, with counts")
        monitor = DriftMonitor(reference, Sensitivity(run_length))
        monitor.restore(kept["monitor"])
        gathered, before = kept["gathered"], kept["before"]
        if not isinstance(before, int) or before < 0:
            raise ValueError("stored count of texts: must be a whole number, 0 or more")
        try:
            explained = convert(kept["explained"], dict[Channel, Explained])
        except msgspec.ValidationError as error:
            raise ValueError(f"stored explanation of an alarm: {error}") from error
        return cls(
            reference,
            kept["reference"],
            usual,
            monitor,
            math.log(run_length),
            None if gathered is None else Gathered.of_stored(gathered, monitor.waiting),
            before,
            str(kept.get("kept_first", "")),
            RecentTexts.of_stored(kept["recent"], monitor.seen),
            {channel: float(kept["began"][channel]) for channel in monitor.open},
            explained,
            stored_since(kept),
        )
