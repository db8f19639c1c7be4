"""The self-test of monitors of drift, on texts made for it.

Needs numpy: import it where a monitor is made, not where a process starts.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.domain.errors import Unavailable
from fairlead.embedding.interface import Embedder
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.made_texts import changed_texts, usual_texts
from fairlead.stats.drift.reference import unit_rows

LEARNT = 1_000
HONEST = CHANGED = 320
_AT = 1e6


def drift_self_test(new: Callable[[], Monitor], text: str) -> str:
    """New content and a surge in texts made for it, and none of both before.

    Args:
        new: Makes a monitor of these texts that learns from `LEARNT`.
        text: `prompt` or `answer`.
    """
    for channel in ("new_content", "mix"):
        monitor = new()
        for usual in usual_texts(LEARNT + HONEST, text):
            monitor.see_text(usual)
        if found := monitor.conditions(_AT):
            return f"an alarm about honest texts: {found[0].summary}"
        for changed in changed_texts(CHANGED, text, channel):
            monitor.see_text(changed)
        found = monitor.conditions(_AT)
        told = [dict(each.labels)["channel"] for each in found]
        if channel not in told:
            return f"did not find {channel} in made texts"
    return ""


def embedder_problem(embedder: Embedder) -> str:
    """Why it makes no vectors; empty where it does, or its model is not there: that is told."""
    try:
        unit_rows(embedder.embed(["Where is my card?", ""]), embedder.dimension)
    except Unavailable:
        return ""
    except Exception as error:  # noqa: BLE001 - of whoever made it: any failure is the answer
        return f"its embedder {embedder.name} fails: {type(error).__name__}"
    return ""
