"""Drift of what is asked of a release, or of what it answers, from vectors of the texts.

The release's first texts are the reference: one half of them, in blocks of time, fits clusters, the
other half calibrates (`fairlead.stats.drift.reference.halves`). An embedder that is given must not
have been fitted to them. After that texts are taken in by 32, or those of a minute. While there is
no alarm they join what calibrates (`fairlead.stats.drift.usual`). Once there are many more
(`TextSettings.drift_texts_later`), the watch begins anew, a single time, against a reference that
is made of all of these, unless a model elsewhere has to be asked about each. An alarm opens a
condition with the label `channel`: `new_content`, or `mix` where the same things are asked in other
shares. The watch begins anew at once, against the same reference. The condition ends when the texts
since tell against the change as the alarm's own bet sees it (`fairlead.stats.ending`), or when a
person accepts what is now: then it learns anew.

Needs numpy: import it where a monitor is made, not where a process starts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairlead.domain.errors import Unavailable
from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder, Matrix, NotYet, TextsRefused
from fairlead.embedding.kinds import asks_model
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.drift_exercise import LEARNT, drift_self_test, embedder_problem
from fairlead.monitoring.monitors.drift_words import About, condition_of
from fairlead.monitoring.monitors.gathered_texts import Gathered
from fairlead.monitoring.monitors.interface import (
    Deaf,
    Document,
    SeenText,
    SuggestedCase,
)
from fairlead.monitoring.monitors.kept_texts import (
    CHARS_MAX,
    KeptText,
    as_stored,
    from_stored,
    kept_text,
    without,
)
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.monitors.topics import (
    PER_CLUSTER,
    Candidate,
    Cluster,
    Unasked,
    by_any,
    candidates,
)
from fairlead.monitoring.monitors.watched_texts import WatchedTexts
from fairlead.stats.drift.reference import unit_rows
from fairlead.stats.monitors.evidence import made_with

BATCH = 32
PENDING_S = 60.0
"""So long, at most, a text waits for others to be taken in with."""
WAITING_MAX = 2_000
"""So many texts wait while the embedder's model does not answer, the last ones."""
LATER = 2
"""A second reference is worth it if it has so many times as many texts."""
_SELF_TEST = TextSettings(drift_texts=LEARNT)
_SELF_TEST_DIMENSION = 64


class TextDrift(Deaf):
    """Watches the prompts, or the answers, of one release.

    Attributes:
        blindness: Why it has no vectors of what was said last; empty where it has.
    """

    def __init__(
        self,
        about: About,
        settings: TextSettings,
        embedder: Embedder | None = None,
        watches: int = 1,
    ) -> None:
        """With hashed n-grams, if no `embedder` is given.

        `watches`: among so many monitors the false alarms that the settings allow are shared.
        """
        self.name = about.name
        self._about = about
        self._settings = settings
        self._embedder: Embedder = embedder or HashedNgrams()
        self._run_length = settings.texts_per_false_alarm * watches
        self._of = made_with(
            (about.name, about.service, about.text), settings, self._embedder.name, watches
        )
        self._begin()

    def _begin(self) -> None:
        self._pending: list[KeptText] = []
        self._learning: list[KeptText] = []
        self._problem = self.blindness = ""
        self._watching: WatchedTexts | None = None
        self._left_out = 0

    @property
    def vectors(self) -> str:
        """Name of the embedder that it goes by."""
        return self._embedder.name

    @property
    def is_open(self) -> bool:
        """Whether it has an alarm that is not over."""
        return self._watching is not None and bool(self._watching.monitor.open)

    def see_text(self, text: SeenText) -> None:
        """Take it in, with 31 others: vectors of many cost less."""
        said = self._about.of(text)
        if not said or said.isspace():
            return
        self._pending.append(kept_text(text, said))
        if len(self._pending) % BATCH == 0:
            self._take_pending()

    def conditions(self, now: float) -> list[Condition]:
        """A condition for each channel with an alarm that is not over."""
        if self._pending and now - self._pending[0].at >= PENDING_S:
            self._take_pending()
        watching = self._watching
        if watching is None:
            return []
        return [
            condition_of(
                self._about,
                watching.explanation(channel, self._embedder),
                watching.began[channel],
                watching.learnt_since,
                now,
            )
            for channel in watching.monitor.open
        ]

    def candidates(self, per_cluster: int = PER_CLUSTER) -> tuple[Candidate, ...]:
        """Cases that the open alarms suggest; no model is asked for that."""
        watching, known = self._watching, Unasked(self._embedder)
        if watching is None:
            return ()
        clusters: list[Cluster] = []
        for channel in watching.monitor.open:
            told = watching.explanation(channel, known)
            clusters += [*told.new, *told.grown] if channel == "novelty" else told.grown
        return by_any(known, lambda by: candidates(clusters, by, CHARS_MAX, per_cluster))

    def suggested_cases(self) -> list[SuggestedCase]:
        """The candidates, of prompts; nobody asks an answer."""
        if self._about.text != "prompt":
            return []
        return [
            SuggestedCase(
                each.id,
                each.text,
                ("drift", each.kind, *(["cut"] if each.is_cut else [])),
                ", ".join(each.words),
            )
            for each in self.candidates()
        ]

    def kept_requests(self) -> set[str]:
        """Ids of the requests whose texts it keeps."""
        kept = [*self._pending, *self._learning]
        if (watching := self._watching) is not None:
            kept += watching.kept()
        return {each.id for each in kept if each.id}

    def standing(self) -> str:
        """How far it is."""
        watching = self._watching
        if watching is None:
            have = min(len(self._learning) + len(self._pending), self._settings.drift_texts)
            told = f"learning, {have:,} of {self._settings.drift_texts:,} {self._about.text}s"
        else:
            seen = watching.seen + len(self._pending)
            told = f"watching, {seen:,} {self._about.text}s"
            if watching.gathered is not None:
                later = self._settings.drift_texts_later
                told += f", {len(watching.gathered):,} of {later:,} for a larger reference"
            elif watching.kept_first:
                told += f", against its first ones: {watching.kept_first}"
        if self._left_out:
            told += f", without {self._left_out:,} that the embedding model refuses"
        why = self._problem or self.blindness
        return f"{told}; {why}" if why else told

    def accept(self) -> None:
        """Learn anew, from now on."""
        self._begin()

    def forget(self, ids: Collection[str]) -> None:
        """Drop the texts of these requests: their sample was deleted.

        Alarms whose explanation has one of them are explained anew, from what is kept. What was
        fitted to them stays: vectors of clusters, and words that three texts have.
        """
        self._pending = without(self._pending, ids)
        self._learning = without(self._learning, ids)
        if (watching := self._watching) is not None:
            watching.forget(ids)

    def _take_pending(self) -> None:
        """Raises what the embedder raises; those texts are left out then.

        But where its model cannot be asked now, they wait; what alone is refused is left out.
        """
        self.blindness = ""
        while self._pending:
            taken, self._pending = self._pending[:BATCH], self._pending[BATCH:]
            try:
                left = self._take(taken)
            except TextsRefused as error:
                left = self._without(taken, error.texts)
                self._learning = self._without(self._learning, error.texts)
            except Unavailable as error:
                self._pending = [*taken, *self._pending][-WAITING_MAX:]
                self.blindness = "" if isinstance(error, NotYet) else error.message
                return
            self._pending = [*left, *self._pending]

    def _without(self, texts: list[KeptText], refused: Collection[str]) -> list[KeptText]:
        left = [each for each in texts if each.text not in refused]
        self._left_out += len(texts) - len(left)
        return left

    def _take(self, taken: list[KeptText]) -> list[KeptText]:
        """Take these in, all or none of them; those that are to be taken in after that."""
        if self._watching is not None:
            self._watch(self._watching, taken)
            return []
        room = self._settings.drift_texts - len(self._learning)
        learning = [*self._learning, *taken[:room]]
        if len(learning) < self._settings.drift_texts:
            self._learning = learning
        else:
            self._learn(learning)
        return taken[room:]

    def _learn(self, learning: list[KeptText]) -> None:
        vectors = self._vectors_of(learning)
        try:
            watching = WatchedTexts.learnt(learning, vectors, self._run_length)
        except ValueError as error:  # such as prompts that are all the same
            self._problem = f"nothing to learn from: {error}"
            self._learning = learning[len(learning) // 2 :]
            return
        settings = self._settings
        is_worth_it = settings.drift_texts_later >= LATER * settings.drift_texts
        if is_worth_it and not asks_model(self._embedder.name):
            watching.gathered = Gathered(learning)
        self._watching = watching
        self._learning, self._problem = [], ""

    def _vectors_of(self, texts: Sequence[KeptText]) -> Matrix:
        rows = self._embedder.embed([each.text for each in texts])
        return unit_rows(rows, self._embedder.dimension)

    def _watch(self, watching: WatchedTexts, texts: list[KeptText]) -> None:
        watching.see(texts, self._embedder)
        gathered = watching.gathered
        enough = gathered is not None and len(gathered) >= self._settings.drift_texts_later
        if gathered is None or not enough or not watching.is_calm:
            return
        watching.gathered = None
        if watching.monitor.has_moved:
            watching.kept_first = "a topic's share has grown since"
            return
        known = gathered.known()
        vectors = self._vectors_of(known)
        try:
            self._watching = WatchedTexts.learnt(known, vectors, self._run_length, watching.seen)
        except ValueError as error:
            watching.kept_first = str(error)

    def state(self) -> Document:
        """Everything that `restore` needs; the reference as bytes in base64."""
        return {
            "of": self._of,
            "release": self._about.release,
            "pending": as_stored(self._pending),
            "learning": as_stored(self._learning),
            "problem": self._problem,
            "watching": None if self._watching is None else self._watching.state(),
        }

    def restore(self, state: Document) -> None:
        """Go on from a state. Raises ValueError, and changes nothing, if it is damaged."""
        if not isinstance(state, dict) or state.get("release") != self._about.release:
            raise ValueError(f"state of monitor {self.name}: of another release")
        self._go_on(state)

    def inherit(self, state: Document) -> None:
        """Go on with what an earlier release was asked: its users are the service's.

        Answers are each release's own. An alarm that is open is told of the release that had it,
        and not of this one, which learns anew then. Raises ValueError, and changes nothing, if the
        state is damaged or was made with other settings.
        """
        if self._about.text != "prompt":
            return
        watching = state.get("watching") if isinstance(state, dict) else None
        if watching is None and self._watching is not None:
            return
        before = self.state()
        self._go_on(state)
        if self._watching is not None and self._watching.monitor.open:
            self.restore(before)

    def _go_on(self, state: Document) -> None:
        if not isinstance(state, dict) or state.get("of") != self._of:
            raise ValueError(f"state of monitor {self.name}: made with other settings")
        try:
            pending = from_stored(state["pending"], WAITING_MAX + BATCH - 1)
            learning = from_stored(state["learning"], self._settings.drift_texts)
            problem = str(state["problem"])
            kept = state["watching"]
            watching = None if kept is None else WatchedTexts.restored(kept, self._run_length)
        except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
            why = type(error).__name__
            raise ValueError(f"state of monitor {self.name} is damaged: {why}") from error
        self._pending, self._learning, self._problem = pending, learning, problem
        self._watching = watching

    def self_test(self) -> str:
        """New content and a surge in texts made for it, and none of both before."""
        found = drift_self_test(
            lambda: TextDrift(self._about, _SELF_TEST, HashedNgrams(_SELF_TEST_DIMENSION)),
            self._about.text,
        )
        return found or embedder_problem(self._embedder)
