"""Drift of what is asked as a whole, and of what each declared segment of the users asks.

What changes for a few drowns in what all ask. So each segment has a reference of its own, its first
texts, and is watched by itself; its alarm has the label `segment`. False alarms are shared: half of
them are the whole's, the other half belongs to the segments, an equal part to each of `SLICES_MAX`,
declared or not, so that one more changes nothing for the others. Of `n` texts each monitor has at
most `n / A` false alarms on average, A being its run length, whatever the others do; with `2 A` for
the whole and `2 A SLICES_MAX` for each segment these add up to `n / A` at most, also where segments
have users in common (Bonferroni).

Needs numpy: import it where a monitor is made, not where a process starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import msgspec

from fairlead.embedding.interface import Embedder
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.interface import Deaf, Document, SeenText, SuggestedCase
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.stats.monitors.evidence import made_with

SLICES_MAX = 8
"""Segments that are watched, the first ones; each takes some megabytes, and a part of the false
alarms."""
PARTS = 2
"""The whole has one of them, all segments together the other one."""


class SlicedDrift(Deaf):
    """Watches the prompts, or the answers, of one release, and those of its segments."""

    def __init__(
        self,
        about: About,
        settings: TextSettings,
        segments: Mapping[str, Collection[str]],
        name_of: Callable[[str], str] = str,
        embedder: Embedder | None = None,
        watches: int = 1,
    ) -> None:
        """Arguments as of `TextDrift`, and besides:

        `segments`: names of API keys, by segment. `name_of`: name of an API key, by its id.
        """
        self.name = about.name
        self._about = about
        self._settings = settings
        self._name_of = name_of
        self._embedder = embedder
        self._watches = watches
        self._segments = {
            name: frozenset(keys) for name, keys in list(segments.items())[:SLICES_MAX]
        }
        self._unwatched = len(segments) - len(self._segments)
        self._of = made_with(about.name, about.service, watches)
        self._monitors = self._new()

    def _new(self) -> dict[str, TextDrift]:
        """The whole by the empty name, and each segment by its own."""
        made = {"": TextDrift(self._about, self._settings, self._embedder, PARTS * self._watches)}
        for name in self._segments:
            watches = PARTS * self._watches * SLICES_MAX
            about = self._about._replace(segment=name)
            made[name] = TextDrift(about, self._settings, self._embedder, watches)
        return made

    @property
    def vectors(self) -> str:
        """Name of the embedder that it goes by."""
        return self._monitors[""].vectors

    @property
    def blindness(self) -> str:
        """Why there are no vectors of what was said last; empty where there are."""
        return next((each.blindness for each in self._monitors.values() if each.blindness), "")

    def see_text(self, text: SeenText) -> None:
        """Take it in, as one of all and as one of each segment that its user is of."""
        key = self._name_of(text.request.key)
        for name, monitor in self._monitors.items():
            if not name or key in self._segments[name]:
                monitor.see_text(text)

    def conditions(self, now: float) -> list[Condition]:
        """Those of the whole, then those of segments."""
        return [one for each in self._monitors.values() for one in each.conditions(now)]

    def standing(self) -> str:
        """How far each is."""
        told = [
            f"{name}: {each.standing()}" if name else each.standing()
            for name, each in self._monitors.items()
        ]
        if self._unwatched:
            told.append(f"{self._unwatched} more segments are not watched, {SLICES_MAX} are")
        return "; ".join(told)

    def accept(self) -> None:
        """What is told now is as it should be: who tells it learns anew; all, where nobody does."""
        telling = [each for each in self._monitors.values() if each.is_open]
        for each in telling or self._monitors.values():
            each.accept()

    def suggested_cases(self) -> list[SuggestedCase]:
        """What each suggests, that of a segment with its name as a tag."""
        return [
            msgspec.structs.replace(case, tags=(*case.tags, f"segment={name}")) if name else case
            for name, each in self._monitors.items()
            for case in each.suggested_cases()
        ]

    def kept_requests(self) -> set[str]:
        """Ids of the requests whose texts any of them keeps."""
        return {one for each in self._monitors.values() for one in each.kept_requests()}

    def forget(self, ids: Collection[str]) -> None:
        """Drop the texts of these requests."""
        for each in self._monitors.values():
            each.forget(ids)

    def state(self) -> Document:
        """Everything that `restore` needs."""
        return {
            "of": self._of,
            "whole": self._monitors[""].state(),
            "segments": {
                name: {"keys": sorted(keys), "state": self._monitors[name].state()}
                for name, keys in self._segments.items()
            },
        }

    def restore(self, state: Document) -> None:
        """Go on from a state; a segment that is new, or has other keys, learns.

        Raises ValueError, and changes nothing, if the state is damaged.
        """
        made = self._new()
        for name, kept in self._kept(state):
            made[name].restore(kept)
        self._monitors = made

    def inherit(self, state: Document) -> None:
        """Go on with what an earlier release was asked; see `TextDrift.inherit`."""
        before = self.state()
        try:
            for name, kept in self._kept(state):
                self._monitors[name].inherit(kept)
        except ValueError:
            self.restore(before)
            raise

    def _kept(self, state: Document) -> Iterator[tuple[str, Document]]:
        """Of the whole, and of each segment that is the same one still."""
        if not isinstance(state, dict) or state.get("of") != self._of:
            raise ValueError(f"state of monitor {self.name}: made with other settings")
        segments = state.get("segments")
        if not isinstance(segments, dict) or not isinstance(state.get("whole"), dict):
            raise ValueError(f"state of monitor {self.name} is damaged: no segments, or no whole")
        yield "", state["whole"]
        for name, keys in self._segments.items():
            kept = segments.get(name)
            if isinstance(kept, dict) and kept.get("keys") == sorted(keys):
                yield name, kept.get("state", {})

    def self_test(self) -> str:
        """That of the whole: those of segments are made alike."""
        return self._monitors[""].self_test()
