"""The example that the demo ships: `examples/banking`, from the checkout or from the package."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.cli.demo.traffic import Question, read_questions
from fairlead.domain.errors import NotFound

if TYPE_CHECKING:
    from fairlead.manifest import Manifest

RELEASES = ("a", "b", "c", "d")
SUITE_CASES = 240
_PACKAGE = Path(__file__).resolve().parents[2]
PLACES = (_PACKAGE / "examples" / "banking", _PACKAGE.parents[1] / "examples" / "banking")


class Example:
    """The banking service: its manifests, and the questions that customers ask.

    Args:
        data: Folder with `test.csv` of Banking77 (columns `text`, `category`). Its questions then
            take the place of the example's own, for the suite and for the traffic.
    """

    service = "banking"

    def __init__(self, data: Path | None = None) -> None:
        self.folder = _folder()
        self.releases = RELEASES
        self._suite: list[Question] | None = None
        if data is None:
            self.questions: Sequence[Question] = read_questions(self.folder / "traffic.csv")
        else:
            file = data / "test.csv" if data.is_dir() else data
            self._suite, self.questions = _divide(read_questions(file), self._covered_intents())

    def manifest(self, release: str, scratch: Path) -> Manifest:
        """The manifest of one release; with `data`, its suite is written to `scratch`."""
        from fairlead.manifest import load_manifest

        loaded = load_manifest(self.folder / f"release-{release}.yaml")
        if self._suite is None:
            return loaded
        file = scratch / "suite.csv"
        with file.open("w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out)
            rows.writerow(["text", "category"])
            rows.writerows([q.text, q.intent] for q in self._suite)
        gates = tuple(gate.model_copy(update={"suite": file}) for gate in loaded.gates)
        return loaded.model_copy(update={"gates": gates})

    def _covered_intents(self) -> set[str]:
        known = json.loads((self.folder / "intents.json").read_text(encoding="utf-8"))
        uncovered = set(known["uncovered_by_suite"])
        return {intent for intent, team in known["intents"].items() if team not in uncovered}


def _folder() -> Path:
    for place in PLACES:
        if (place / "intents.json").is_file():
            return place
    raise NotFound(
        "the example service is not part of this installation",
        hint="clone the repository and run `make demo`",
    )


def _divide(
    questions: Sequence[Question], covered: set[str]
) -> tuple[list[Question], list[Question]]:
    """A suite over the covered intents, and all other questions as traffic; always the same."""
    mixed = list(questions)
    random.Random(77).shuffle(mixed)  # noqa: S311 - an order, not a secret
    suite = [q for q in mixed if q.intent in covered][:SUITE_CASES]
    chosen = {q.text for q in suite}
    return suite, [q for q in mixed if q.text not in chosen]
