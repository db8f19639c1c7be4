"""The intents of the banking example, the team that owns each, and the labelled questions."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

INTENTS_FILE = Path(__file__).resolve().parent / "intents.json"

# The pieces of an answer: {"intent": "card_arrival", "team": "cards"}
OPEN, MIDDLE, CLOSE = '{"intent": "', '", "team": "', '"}'


@dataclass(frozen=True)
class Row:
    """One labelled question."""

    text: str
    intent: str


@dataclass(frozen=True)
class Catalogue:
    """The intents, the team that owns each, and the teams outside the offline suite."""

    teams: dict[str, str]
    uncovered_teams: tuple[str, ...]

    @cached_property
    def intents(self) -> list[str]:
        return sorted(self.teams)

    @cached_property
    def team_names(self) -> list[str]:
        return sorted(set(self.teams.values()))

    def covered(self, intent: str) -> bool:
        return self.teams[intent] not in self.uncovered_teams

    def answer(self, intent: str) -> str:
        return OPEN + intent + MIDDLE + self.teams[intent] + CLOSE


def load_catalogue(path: Path = INTENTS_FILE) -> Catalogue:
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Catalogue(teams=raw["intents"], uncovered_teams=tuple(raw["uncovered_by_suite"]))


def load_rows(path: Path) -> list[Row]:
    """Read a ``text,category`` CSV file."""
    with path.open(newline="", encoding="utf-8") as handle:
        return [Row(text=r["text"], intent=r["category"]) for r in csv.DictReader(handle)]
