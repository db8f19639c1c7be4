"""Vectors of a model that is asked for them, by whatever asks it.

What was asked is known for a while, by a hash of the text, so that the same text costs once and a
call that could not be ended goes on where it was. Nothing is asked for longer than a part of the
time, beyond the texts of the day, or soon after a failure: whoever watches waits for none of that,
but is told to come again. Texts that the model refuses while it answers about others are remembered
too, and not asked about again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.domain.errors import Unavailable
from fairlead.embedding.asking_time import AskingTime
from fairlead.embedding.interface import LETTERS_MAX, Matrix, NotYet, TextsRefused, scaled
from fairlead.embedding.kinds import MODEL

Ask = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""A vector for each text, in order; raises Unavailable where there is no answer, and TextsRefused
where there is none for these texts."""

BATCH = 32
KNOWN_MAX = 16_000
"""Vectors that are remembered, as 16-bit numbers: 12 MB of 384 numbers each."""
DIMENSION_MIN, DIMENSION_MAX = 8, 8_192
REST_S, REST_S_MAX = 30.0, 300.0
"""After a failure nothing is asked for so long, and for twice as long after the next."""
DAY_S = 86_400.0
PLAIN = "hello"
"""A model that refuses this refuses everything."""


class AskedModel:
    """An embedder that asks a model.

    Args:
        identity: What its vectors are of.
        per_day: Texts that are asked about in a day (UTC), while this process runs.
        now: Unix time in seconds.
        monotonic: Seconds that never jump.
        time: The part of the time that it may be asked in; one of its own, if it shares none.
    """

    def __init__(
        self,
        identity: str,
        ask: Ask,
        per_day: int,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        time: AskingTime | None = None,
    ) -> None:
        self._name = f"{MODEL}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self._ask = ask
        self._per_day = per_day
        self._now, self._monotonic = now, monotonic
        self._known: OrderedDict[bytes, NDArray[np.float16]] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._dimension = 0
        self._day, self._of_day = 0.0, 0
        self._time = time or AskingTime(monotonic)
        self._rests_until, self._rest_s, self._why = -1.0, REST_S, ""

    @property
    def name(self) -> str:
        """Which model."""
        return self._name

    @property
    def dimension(self) -> int:
        """Numbers per vector; raises Unavailable before the first one is known."""
        if not self._dimension:
            raise Unavailable("the embedding model has not answered yet")
        return self._dimension

    def is_known(self, texts: Sequence[str]) -> bool:
        """Whether it has vectors of all of these without asking."""
        cut = (text[:LETTERS_MAX] for text in texts)
        return bool(self._dimension) and all(
            not text.strip() or _key(text) in self._known for text in cut
        )

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text.

        Raises Unavailable while the model does not answer, and NotYet where it needs another call;
        TextsRefused where some have no vector, and all others are known.
        """
        cut = [text[:LETTERS_MAX] for text in texts]
        lacking: dict[bytes, str] = {}
        for text in cut:
            if text.strip():
                key = _key(text)
                if key in self._known:
                    self._known.move_to_end(key)
                elif key not in self._refused:
                    lacking[key] = text
        several = list(lacking.items())
        try:
            for start in range(0, len(several), BATCH):
                self._fetch(dict(several[start : start + BATCH]))
            if refused := [text for text in texts if _key(text[:LETTERS_MAX]) in self._refused]:
                raise TextsRefused(f"the embedding model refuses {len(refused)} texts", refused)
            rows = np.zeros((len(cut), self.dimension), np.float32)
            for place, text in enumerate(cut):
                if text.strip():
                    rows[place] = self._known[_key(text)]
        finally:
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
            while len(self._refused) > KNOWN_MAX:
                self._refused.popitem(last=False)
        return scaled(rows)

    def _fetch(self, texts: dict[bytes, str]) -> None:
        """Make these known, or note that they are refused, if another text is not."""
        try:
            self._request(texts)
        except TextsRefused:
            try:
                self._request({_key(PLAIN): PLAIN})
            except TextsRefused as error:
                self._rest(error.message)
                raise Unavailable(error.message) from None
            self._fetch_halves(list(texts.items()))

    def _fetch_halves(self, texts: Sequence[tuple[bytes, str]]) -> None:
        middle = (len(texts) + 1) // 2
        for half in filter(None, (texts[:middle], texts[middle:])):
            try:
                self._request(dict(half))
            except TextsRefused:
                if len(half) > 1:
                    self._fetch_halves(half)
                else:
                    self._refused[half[0][0]] = None

    def _request(self, texts: dict[bytes, str]) -> None:
        self._check(len(texts))
        begun = self._monotonic()
        try:
            rows = self._checked(self._ask(list(texts.values())), len(texts))
        except TextsRefused:
            raise
        except Unavailable as error:
            self._rest(error.message)
            raise
        finally:
            self._time.spend(self._name, self._monotonic() - begun)
            self._of_day += len(texts)
        self._rest_s = REST_S
        self._known.update(zip(texts, rows, strict=True))

    def _rest(self, why: str) -> None:
        self._why = why
        self._rests_until = self._monotonic() + self._rest_s
        self._rest_s = min(2.0 * self._rest_s, REST_S_MAX)

    def _check(self, count: int) -> None:
        """Raises what keeps it from being asked now."""
        at = self._monotonic()
        if at < self._rests_until:
            raise Unavailable(self._why)
        if not self._time.is_left(self._name):
            raise NotYet("the embedding model is asked for the rest later")
        day = self._now() // DAY_S
        if day != self._day:
            self._day, self._of_day = day, 0
        if self._of_day + count > self._per_day:
            asked, most = f"{self._of_day:,}", f"{self._per_day:,}"
            raise Unavailable(
                f"the embedding model was asked about {asked} texts, and {most} are those of a "
                "day; it goes on at midnight UTC"
            )

    def _checked(self, vectors: Sequence[Sequence[float]], count: int) -> NDArray[np.float16]:
        """The vectors, at length 1 and rounded; raises Unavailable for what are none."""
        try:
            rows = np.array(vectors, np.float32)
        except (TypeError, ValueError, OverflowError):
            rows = np.zeros((0, 0), np.float32)
        fits = rows.ndim == 2 and len(rows) == count and np.isfinite(rows).all()
        if not fits or not DIMENSION_MIN <= rows.shape[1] <= DIMENSION_MAX:
            raise Unavailable("the embedding model's answer holds no vector for each text")
        if self._dimension and rows.shape[1] != self._dimension:
            raise Unavailable(
                f"the embedding model answers vectors of {rows.shape[1]} numbers, and before of "
                f"{self._dimension}"
            )
        self._dimension = rows.shape[1]
        return scaled(rows).astype(np.float16)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
