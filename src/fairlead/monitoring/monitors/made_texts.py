"""Texts made for self-tests: a few topics, each with words of its own; the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

from fairlead.domain.recorded import RecordedRequest
from fairlead.monitoring.monitors.interface import SeenText

_COMMON = ("the", "a", "my", "is", "to", "i", "can", "how", "what", "please", "for", "it")
_TOPICS = tuple(
    words.split()
    for words in (
        "card lost stolen block freeze replacement plastic wallet",
        "transfer send payee bank pending abroad reference swift",
        "password login reset email code locked verify device",
        "refund merchant shop charged twice receipt return dispute",
        "exchange currency rate euro dollar convert fee travel",
        "account close open joint limit savings statement balance",
        "cash machine withdraw atm notes empty swallowed coins",
        "identity passport document photo selfie upload proof scan",
    )
)
_NEW = ["guitar", "concert", "singer", "album", "drums", "melody", "ticket", "festival"]


def made_text(
    prompt: str, answer: str = "", id: str = "", at: float = 0.0, **known: str
) -> SeenText:
    """A text of a request of which nothing else is known."""
    told = {"id": id, "started_at": at, "key": "key", "replica": "replica", "unit": "unit", **known}
    return SeenText(cast(RecordedRequest, SimpleNamespace(**told)), prompt, answer, False)


def usual_texts(count: int, text: str = "prompt") -> Iterator[SeenText]:
    """About the usual topics."""
    draw = random.Random(5)  # noqa: S311
    for number in range(count):
        yield _made(_about(draw.choice(_TOPICS), draw), text, number)


def changed_texts(count: int, text: str, channel: str) -> Iterator[SeenText]:
    """Half of them are about something new (`new_content`), or about one usual topic (`mix`)."""
    draw = random.Random(6)  # noqa: S311
    more = _NEW if channel == "new_content" else _TOPICS[0]
    for number in range(count):
        topic = more if draw.random() < 0.5 else draw.choice(_TOPICS)
        yield _made(_about(topic, draw), text, 100_000 + number)


def _about(topic: list[str], draw: random.Random) -> str:
    return " ".join([*draw.sample(topic, 4), *draw.sample(_COMMON, 3)])


def _made(said: str, text: str, number: int) -> SeenText:
    prompt, answer = (said, "") if text == "prompt" else ("", said)
    return made_text(prompt, answer, f"made-{number}", float(number))
