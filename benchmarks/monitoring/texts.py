"""The questions: Banking77 and CLINC150, read where they are, and typos made from them."""

from __future__ import annotations

import csv
import json
import os
import random
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FAIRLEAD_DATA") or ROOT.parent / "shared" / "data").absolute()
NEAR = (
    "routing", "pay_bill", "credit_score", "improve_credit_score", "rewards_balance",
    "redeem_rewards", "interest_rate", "credit_limit", "rollover_401k", "taxes", "insurance",
    "order_checks", "bill_due", "min_payment", "apr", "payday", "direct_deposit",
)  # fmt: skip
"""Intents of CLINC150 about money that Banking77 does not have."""
OOS, NEAR_MAX, TYPOS = 600, 255, 600
"""So many texts are enough to draw from, and a full model takes its time for each."""
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


class Texts(NamedTuple):
    """Texts by kind; `..._intents` name the intent of each question."""

    train: list[str]
    train_intents: list[str]
    test: list[str]
    test_intents: list[str]
    oos: list[str]
    near: list[str]
    near_intents: list[str]
    typos: list[str]

    def lists(self) -> dict[str, list[str]]:
        """Those that have to be embedded."""
        names = ("train", "test", "oos", "near", "typos")
        return {name: getattr(self, name) for name in names}

    def for_embedders(self) -> list[int]:
        """The training questions that embedders are fitted to, and that nothing else is made of."""
        return list(range(0, len(self.train), 5))


def load(data: Path = DATA) -> Texts:
    """All of them; of the test questions every second one.

    Raises FileNotFoundError where the data sets are not there.
    """
    train, train_intents = _banking(data / "banking77" / "train.csv")
    test, test_intents = _banking(data / "banking77" / "test.csv")
    test, test_intents = test[::2], test_intents[::2]
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    oos = [text for part in ("oos_train", "oos_val", "oos_test") for text, _ in clinc[part]]
    near = [each for part in ("val", "test") for each in clinc[part] if each[1] in NEAR]
    draw = random.Random(77)
    oos, near = draw.sample(oos, OOS), draw.sample(near, min(NEAR_MAX, len(near)))
    near, near_intents = [text for text, _ in near], [intent for _, intent in near]
    misspelt = [typo(text, draw) for text in draw.sample(test, TYPOS)]
    return Texts(train, train_intents, test, test_intents, oos, near, near_intents, misspelt)


def typo(text: str, draw: random.Random, rate: float = 0.08) -> str:
    """The text with some letters doubled, left out, swapped or hit beside."""
    out: list[str] = []
    letters = list(text)
    i = 0
    while i < len(letters):
        letter = letters[i]
        if not letter.isalpha() or draw.random() >= rate:
            out.append(letter)
        else:
            kind = draw.randrange(4)
            if kind == 0:
                out += [letter, letter]
            elif kind == 1 and i + 1 < len(letters):
                out += [letters[i + 1], letter]
                i += 1
            elif kind == 2:
                out.append(_beside(letter, draw))
        i += 1
    return "".join(out)


def _beside(letter: str, draw: random.Random) -> str:
    for row in _KEYS:
        at = row.find(letter.lower())
        if at >= 0:
            return row[max(0, min(len(row) - 1, at + draw.choice((-1, 1))))]
    return letter


def _banking(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]
