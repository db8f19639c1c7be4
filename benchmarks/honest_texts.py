"""What users ask and what a model says in an hour of honest traffic; both stay what they are.

Questions are Banking77's, where FAIRLEAD_DATA has them, or else the example's. Each service has a
mix of their intents of its own, which never changes. Answers are made here, of one or two English
sentences about a matter; each intent has its matter, so that who asks can tell a wrong one.
"""

from __future__ import annotations

import csv
import itertools
import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from support.data_sets import BANKING77
from support.honest_traffic import Asked
from support.installation import BANKING
from support.recorded_engine import PER_INTENT

GOES_ON = 0.4
"""After so many answers the same user asks again; of these so many stay with the matter."""
STAYS = 0.8
RANKS_EVEN = 8.0
"""The r-th intent of a mix comes in proportion to 1 / (r + this)."""
EXTRAS = (
    (0.02, " You can reach me at jane.doe@example.org."),
    (0.005, " The number on it is 4111 1111 1111 1111."),
)
"""Shares of the questions that end so: guardrails see these."""
MATTERS = (
    "your new card", "that payment", "the transfer", "your account", "the cash withdrawal",
    "the exchange rate", "the fee", "your password", "the refund", "the direct debit",
    "your identity check", "the top-up", "your code", "the statement", "the spending limit",
    "the virtual card", "your address", "the currency", "the cheque", "the recipient",
    "the delivery", "your phone number", "the verification", "the spare card",
)  # fmt: skip
MAINS = (
    "You can see the state of {} in the app, and it is updated within a minute.",
    "We have looked at {} and there is nothing wrong with it.",
    "It usually takes two or three working days until {} is there.",
    "Please open the settings and choose {}, and then follow the steps that are shown to you.",
    "There is no charge for {} if you do it in the app.",
    "This can happen when {} was changed in the last few hours.",
    "We will check {} and write to you as soon as we know more.",
    "For {} we need a photo of you and of a document with your name on it.",
    "Nothing has to be done, as {} is in order.",
    "I understand, and {} can be stopped for now with one tap.",
    "That depends on {}, and on the country in which you are at the time.",
    "Most people have {} on the same day, but at the end of the month it may be later.",
)
PROMISE = "We promise that this does not cost you anything."
"""A guardrail looks for these words."""
CLOSINGS = (
    "", "", "", "", "",
    "If it is not as you expect tomorrow, please write to us again.",
    "You will get a message from us when it is done.",
    "Our team is there for you from eight in the morning until ten at night.",
    "Is there anything else that you would like to know about this?",
    "You can find more about this on the page with questions and answers, under the first heading.",
    "Thank you for your patience.",
    PROMISE,
)  # fmt: skip


@lru_cache(maxsize=1)
def questions() -> list[Asked]:
    """All that is asked, each with its intent."""
    files = [BANKING77 / "train.csv", BANKING77 / "test.csv"]
    if not has_banking77():
        files = [BANKING / "traffic.csv"]
    return [Asked(*row) for file in files for row in _rows(file)]


def has_banking77() -> bool:
    """Whether the data set is there."""
    return BANKING77.is_dir()


def _rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]


class Mix:
    """What the users of one service ask: always the same intents, as often as ever.

    Args:
        seed: Says which intents come often.
    """

    def __init__(self, asked: Sequence[Asked], seed: int) -> None:
        self._texts: dict[str, list[str]] = defaultdict(list)
        for text, intent in asked:
            self._texts[intent].append(text)
        self._intents = sorted(self._texts)
        random.Random(seed).shuffle(self._intents)
        weights = (1.0 / (rank + RANKS_EVEN) for rank in range(len(self._intents)))
        self._weights = list(itertools.accumulate(weights))

    def begins(self, dice: random.Random) -> Asked:
        """The first question of a conversation."""
        (intent,) = dice.choices(self._intents, cum_weights=self._weights)
        return self._of(intent, dice)

    def goes_on(self, dice: random.Random, asked: Asked) -> Asked | None:
        """What the same user asks after an answer to this; None for nothing more."""
        if dice.random() >= GOES_ON:
            return None
        return self._of(asked.intent, dice) if dice.random() < STAYS else self.begins(dice)

    def _of(self, intent: str, dice: random.Random) -> Asked:
        text, fate = dice.choice(self._texts[intent]), dice.random()
        for share, extra in EXTRAS:
            if fate < share:
                return Asked(text + extra, intent)
            fate -= share
        return Asked(text, intent)


@lru_cache(maxsize=1)
def _topics() -> tuple[dict[str, int], dict[str, str]]:
    """A number of each intent, and the intent of each question."""
    intents = {one.text: one.intent for one in questions()}
    return {name: number for number, name in enumerate(sorted({*intents.values()}))}, intents


def place_of(text: str, places: int) -> int:
    """Which of so many recorded questions stands for this one: one of the same intent."""
    for _, extra in EXTRAS:
        text = text.removesuffix(extra)
    numbers, intents = _topics()
    mixed = zlib.crc32(text.encode())
    if text not in intents:
        return mixed % places
    return (numbers[intents[text]] * PER_INTENT + mixed % PER_INTENT) % places


def matter_of_place(place: int) -> str:
    """What an answer to the question at this place has to be about."""
    return MATTERS[place // PER_INTENT % len(MATTERS)]


def matter(intent: str) -> str:
    """What an answer to a question of this intent has to be about."""
    return matter_of_place(_topics()[0][intent] * PER_INTENT)


def sentences(about: str, dice: random.Random) -> str:
    """One or two of them."""
    said = dice.choice(MAINS).format(about), dice.choice(CLOSINGS)
    return " ".join(filter(None, said))
