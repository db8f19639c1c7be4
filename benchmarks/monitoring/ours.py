"""fairlead's monitor on the streams: alarms, delays, causes, cost."""

from __future__ import annotations

import json
import time
import tracemalloc
from functools import lru_cache
from typing import Any

import numpy as np
from benchmarks.monitoring import streams
from benchmarks.monitoring.minilm import word_table
from benchmarks.monitoring.streams import BEFORE, Rows
from benchmarks.monitoring.texts import Texts
from benchmarks.monitoring.vectors import Setup, embedded, embedder

from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder
from fairlead.embedding.known_words import KnownWords
from fairlead.monitoring.monitors.drift import BATCH, TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.made_texts import made_text
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.monitors.topics import TOPICS_MAX
from fairlead.stats.drift.cause import Cause
from fairlead.stats.drift.clustering import nearest
from fairlead.stats.drift.monitor import Alarm, DriftMonitor
from fairlead.stats.drift.reference import Reference, fit, unit_rows
from fairlead.stats.drift.topics import topics

HONEST_KINDS = ("iid", "brief", "bursty")
GATHERING_MAX = 32_000
LATER = 1_000
"""Requests after the alarm, when it is asked again how much is new."""


class Bench:
    """The streams for one setup, each with a reference of its own."""

    def __init__(self, setup: Setup, texts: Texts) -> None:
        self.setup = setup
        self.vectors = embedded(setup.vectors, texts)
        self.table = streams.tables(texts)
        self._dealt = lru_cache(maxsize=2)(self._deal)

    def _deal(self, is_bursty: bool, number: int) -> tuple[streams.Dealt, Reference]:
        kind = "bursty" if is_bursty else "iid"
        draw = np.random.default_rng([number, 7])
        made = streams.dealt(kind, self.table, draw, self.setup.gathers or self.setup.reference)
        if self.setup.gathers is not None:
            rows = self._gathered(kind, made.reference, draw)
            made = streams.Dealt(rows, self.table.fitted)
        return made, fit(self.vectors[made.reference])

    def _gathered(self, kind: str, first: Rows, draw: np.random.Generator) -> Rows:
        """What joins a first reference until there are enough for a larger one, and the first.

        The first alone, where the monitor would have stayed with it.
        """
        monitor = DriftMonitor(fit(self.vectors[first]))
        made, waiting = list(first), np.zeros(0, np.int64)
        stream = streams.usual(kind, self.table, GATHERING_MAX, draw)
        for start in range(0, GATHERING_MAX, BATCH):
            if len(made) >= self.setup.reference:
                break
            rows = stream[start : start + BATCH]
            monitor.update(self.vectors[rows])
            waiting = np.concatenate([waiting, rows])
            made += list(waiting[: monitor.joined.taken])
            waiting = waiting[len(waiting) - monitor.waiting :]
        is_kept = monitor.has_moved or len(made) < self.setup.reference
        return first if is_kept else np.array(made)

    def honest_rows(self, kind: str, number: int) -> tuple[streams.Dealt, Reference, Rows]:
        """A stream without a change; what was dealt for it, and its reference."""
        made, reference = self._dealt(kind == "bursty", 1_000 + number)
        draw = np.random.default_rng(1_000 + number)
        return made, reference, streams.honest(kind, made.live, self.table, draw)

    def changed_rows(self, name: str, number: int) -> tuple[streams.Dealt, Reference, Rows]:
        """A stream with this change; what was dealt for it, and its reference."""
        draw = np.random.default_rng(number)
        return *self._dealt(False, number), streams.changed(name, number, self.table, draw)

    def honest(self, kind: str, number: int) -> dict[str, Any]:
        """Alarms of a stream without a change, and CPU microseconds of the monitor per request."""
        _, reference, rows = self.honest_rows(kind, number)
        monitor = DriftMonitor(reference)
        begun = time.process_time()
        alarms: list[int] = []
        for start in range(0, len(rows), BATCH):
            found = monitor.update(self.vectors[rows[start : start + BATCH]])
            alarms += [alarm["at"] for alarm in found]
        us = (time.process_time() - begun) / len(rows) * 1e6
        phi = [round(each.phi, 1) for each in (reference.mix, reference.novelty)]
        return {"alarms": alarms, "us": round(us, 1), "phi": phi}

    def changed(self, name: str, number: int) -> dict[str, Any]:
        """The first alarm of a stream that changes after `BEFORE` requests.

        `delay` is None without one, below 1 if it is false. `named`: of a surge, whether its
        cluster is among the three that grew most; of new content, whether at least half of the
        texts of the first topic that is shown are new.
        """
        _, reference, rows = self.changed_rows(name, number)
        monitor = DriftMonitor(reference)
        for start in range(0, len(rows), BATCH):
            alarms = monitor.update(self.vectors[rows[start : start + BATCH]])
            if alarms:
                upto = start + BATCH
                monitor.update(self.vectors[rows[upto : upto + LATER]])
                return self._found(name, number, monitor, alarms[0], reference, rows)
        return {"delay": None}

    def _found(
        self,
        name: str,
        number: int,
        monitor: DriftMonitor,
        alarm: Alarm,
        reference: Reference,
        rows: Rows,
    ) -> dict[str, Any]:
        cause = alarm["cause"]
        later = monitor.cause(cause.channel, cause.changed_at)
        kind = streams.CHANGES[name][0]
        named: bool | None = None
        if kind == "surge":
            named = self._surge_named(number, cause, reference)
        elif kind in ("oos", "near", "topic") and cause.channel == "novelty":
            named = self._new_named("near" if kind == "topic" else kind, cause, rows)
        return {
            "delay": alarm["at"] + 1 - BEFORE,
            "channel": cause.channel,
            "dated": cause.changed_at - BEFORE,
            "new": [round(cause.new_share, 4), round(later.new_share, 4)],
            "named": named,
        }

    def _surge_named(self, number: int, cause: Cause, reference: Reference) -> bool:
        surge = self.table.test_by_intent[streams.SURGES[number % len(streams.SURGES)]]
        cells, _ = nearest(unit_rows(self.vectors[surge]), reference.cells)
        return int(np.bincount(cells).argmax()) in [each.cell for each in cause.grown[:TOPICS_MAX]]

    def _new_named(self, kind: str, cause: Cause, rows: Rows) -> bool:
        shown = rows[list(cause.novel)]
        if not len(shown):
            return False
        first = topics(self.vectors[shown], TOPICS_MAX)[0]
        start = self.table.starts[kind]
        theirs = shown[list(first.rows)]
        is_new = (start <= theirs) & (theirs < start + self.table.sizes[kind])
        return bool(is_new.mean() >= 0.5)


def cost(setup: Setup, texts: Texts) -> dict[str, Any]:
    """CPU and memory of a whole monitor of prompts, as it watches a release.

    `us`: CPU microseconds per prompt, everything included but learning; `vector_us`: of that the
    vectors alone, in batches as the monitor makes them. `learn_s`: CPU seconds to learn. `mb`:
    megabytes that a monitor holds, with its tables of words; `state_mb`: its stored state, with
    2,000 prompts and none that are gathered for a larger reference.
    """
    made = embedder(setup.vectors, texts)
    settings = TextSettings(drift_texts=setup.reference)
    once = TextSettings(drift_texts=setup.reference, drift_texts_later=setup.reference)
    asked = [made_text(text, "", str(n)) for n, text in enumerate(texts.train)]
    first = -(-setup.reference // BATCH) * BATCH  # the batch with which it has learnt
    learn, watch = asked[:first], asked[first:]
    tracemalloc.start()
    monitor = TextDrift(About("drift", "bank", "r", "prompt"), settings, _fresh(setup, made))
    for text in asked[: setup.reference + 2_000]:
        monitor.see_text(text)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    monitor = TextDrift(About("drift", "bank", "r", "prompt"), once, made)
    begun = time.process_time()
    for text in learn:
        monitor.see_text(text)
    learnt = time.process_time()
    for text in watch:
        monitor.see_text(text)
    done = time.process_time()
    said = [text.prompt for text in watch]
    for start in range(0, len(said), BATCH):
        made.embed(said[start : start + BATCH])
    return {
        "us": round((done - learnt) / len(watch) * 1e6, 1),
        "vector_us": round((time.process_time() - done) / len(watch) * 1e6, 1),
        "learn_s": round(learnt - begun, 2),
        "mb": round(held / 1e6, 1),
        "state_mb": round(len(json.dumps(monitor.state())) / 1e6, 2),
    }


def _fresh(setup: Setup, made: Embedder) -> Embedder:
    """One whose table and remembered words count as the monitor's own."""
    if setup.vectors == "words":
        return KnownWords(word_table())
    return HashedNgrams() if setup.vectors == "hashed" else made
