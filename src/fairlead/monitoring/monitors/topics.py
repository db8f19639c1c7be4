"""What an alarm of drift is about, in texts; and the cases that come of it.

Needs numpy: import it where a monitor is made, not where a process starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from fairlead.domain.errors import Unavailable
from fairlead.embedding.asked import AskedModel
from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder, Matrix, NotYet
from fairlead.embedding.word_sums import words
from fairlead.monitoring.monitors.kept_texts import KeptText, RecentTexts
from fairlead.stats.drift.cause import Cause, Channel
from fairlead.stats.drift.topics import telling_words, topics

TOPICS_MAX = 3
TYPICAL_CHARS_MAX = 80
PER_CLUSTER = 5
WORDS_MAX = 5_000
WORD_TEXTS_MIN = 3
"""Words of fewer texts of a reference are not kept: nobody's own words stay in a state."""
SAME = 0.02
"""Texts whose vectors are nearer than this (squared distance) are the same question."""
_NAME_CHARS_MAX = 200

Kind = Literal["new", "grown"]
T = TypeVar("T")


class Cluster(NamedTuple):
    """Texts about the same thing that have come, or come more often.

    Attributes:
        words: That set them apart from what is usual.
        typical: One of them, cut to 80 characters.
        usual_share: Of all texts of the reference; 0 for what is new.
        share: Of all texts since the change (of new content: of those that are least usual).
        texts: Some of them, the most typical first.
    """

    kind: Kind
    words: tuple[str, ...]
    typical: str
    usual_share: float
    share: float
    texts: tuple[KeptText, ...]

    @property
    def title(self) -> str:
        """`cable, bill ("pay my cable bill")`."""
        return f'{", ".join(self.words) or "no words of its own"} ("{self.typical}")'


class Explanation(NamedTuple):
    """Why there is an alarm: the cause by numbers, and what it is about."""

    cause: Cause
    channel: Channel
    new: tuple[Cluster, ...]
    grown: tuple[Cluster, ...]


def explain(
    cause: Cause, recent: RecentTexts, embedder: Embedder, usual: Counter[str]
) -> Explanation:
    """What the texts of a cause are about, as far as they are kept; `usual`: words by texts."""
    new = _kept(cause.novel, recent)
    clusters = []
    if new:
        for topic in topics(embedder.embed([each.text for each in new]), TOPICS_MAX):
            texts = [new[row] for row in topic.rows]
            clusters.append(_cluster("new", texts, usual, 0.0, len(texts) / len(new)))
    grown = []
    for each in cause.grown:
        if texts := _kept(each.requests, recent):
            ordered = _typical_first(texts, embedder)
            grown.append(_cluster("grown", ordered, usual, each.reference_share, each.share))
    return Explanation(cause, cause.channel, tuple(clusters), tuple(grown[:TOPICS_MAX]))


class Candidate(NamedTuple):
    """A case that a suite could have: what was asked, and nothing yet of what is expected.

    Attributes:
        id: Of the request that asked it.
        words: That set its cluster apart.
        is_cut: Whether it may have been longer than what is kept.
    """

    id: str
    text: str
    kind: Kind
    words: tuple[str, ...]
    is_cut: bool


def candidates(
    clusters: Iterable[Cluster], embedder: Embedder, chars_max: int, per_cluster: int = PER_CLUSTER
) -> tuple[Candidate, ...]:
    """Some texts of each cluster that differ, the most typical first; no request twice.

    Each next one is the farthest from those chosen (Gonzalez 1985); what is nearly the same as one
    of these is left out. Texts of `chars_max` characters may have been cut.
    """
    made: dict[str, Candidate] = {}
    for cluster in clusters:
        texts = [each for each in cluster.texts if each.id not in made]
        if not texts:
            continue
        for row in farthest_first(embedder.embed([each.text for each in texts]), per_cluster):
            each = texts[row]
            is_cut = len(each.text) >= chars_max
            made[each.id] = Candidate(each.id, each.text, cluster.kind, cluster.words, is_cut)
    return tuple(made.values())


def as_suite(cases: Iterable[Candidate]) -> bytes:
    """JSONL as `fairlead suite` reads it: for each case id, input, expected (null), tags."""
    return b"".join(
        msgspec.json.encode(
            {
                "id": each.id[:_NAME_CHARS_MAX],
                "input": each.text,
                "expected": None,
                "tags": ["drift", each.kind, *(["cut"] if each.is_cut else [])],
            }
        )
        + b"\n"
        for each in cases
    )


def usual_words(texts: Iterable[str]) -> Counter[str]:
    """In how many of the texts each word is, of those that three have."""
    found = Counter(word for text in texts for word in set(words(text)))
    common = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:WORDS_MAX]
    return Counter({word: count for word, count in common if count >= WORD_TEXTS_MIN})


class Explained(NamedTuple):
    """What an open alarm is about, as it was known after so many texts since its change."""

    changed_at: int
    texts: int
    told: Explanation

    def made_from(self) -> list[KeptText]:
        """The texts that it is made from."""
        return [text for each in (*self.told.new, *self.told.grown) for text in each.texts]


def by_any(embedder: Embedder, make: Callable[[Embedder], T]) -> T:
    """What is made by its vectors; by hashed n-grams where its model cannot be asked now."""
    try:
        return make(embedder)
    except Unavailable:
        return make(HashedNgrams())


class Unasked:
    """An embedder that asks no model: of what is not known yet it raises NotYet."""

    def __init__(self, embedder: Embedder) -> None:
        """Goes by what this one knows."""
        self._embedder = embedder

    @property
    def name(self) -> str:
        """The other's."""
        return self._embedder.name

    @property
    def dimension(self) -> int:
        """The other's."""
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> Matrix:
        """See `Embedder`."""
        if isinstance(self._embedder, AskedModel) and not self._embedder.is_known(texts):
            raise NotYet("the embedding model is not asked now")
        return self._embedder.embed(texts)


def farthest_first(rows: Matrix, count: int) -> list[int]:
    """At most `count` rows, from the first on, each the farthest from those before it."""
    chosen = [0]
    apart = ((rows - rows[0]) ** 2).sum(1)
    while len(chosen) < count:
        at = int(apart.argmax())
        if apart[at] <= SAME:
            break
        chosen.append(at)
        apart = np.minimum(apart, ((rows - rows[at]) ** 2).sum(1))
    return chosen


def _kept(numbers: Sequence[int], recent: RecentTexts) -> list[KeptText]:
    return [each for number in numbers if (each := recent.at(number)) is not None]


def _typical_first(texts: Sequence[KeptText], embedder: Embedder) -> list[KeptText]:
    rows = embedder.embed([each.text for each in texts])
    order = np.argsort(-(rows @ rows.mean(0)), kind="stable")
    return [texts[row] for row in order.tolist()]


def _cluster(
    kind: Kind, texts: Sequence[KeptText], usual: Counter[str], usual_share: float, share: float
) -> Cluster:
    """`texts`: the most typical first."""
    theirs = [[word for word in words(each.text) if len(word) > 1] for each in texts]
    told = telling_words(theirs, usual)
    return Cluster(kind, told, shown(texts[0].text), usual_share, share, tuple(texts))


def shown(text: str) -> str:
    """On one line, and no longer than 80 characters."""
    line = " ".join(text.split())
    is_long = len(line) > TYPICAL_CHARS_MAX
    return line[: TYPICAL_CHARS_MAX - 1] + "…" if is_long else line
