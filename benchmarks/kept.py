"""What was measured so far, a JSON file for each part: a run goes on where the last one stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Runs = dict[str, list[Any]]
"""By the name of what was run: what came of each run, by its number."""


def read(part: str, folder: Path = RESULTS) -> Runs:
    """What there is of a part (the file's name); nothing at first."""
    path = folder / f"{part}.json"
    if not path.is_file():
        return {}
    made: Runs = json.loads(path.read_text(encoding="utf-8"))
    return made


def write(part: str, runs: Runs, folder: Path = RESULTS) -> None:
    """Keep it, one run to a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f" {json.dumps(name)}: [\n  "
        + ",\n  ".join(json.dumps(run, ensure_ascii=False) for run in made)
        + "\n ]"
        for name, made in sorted(runs.items())
    ]
    path = folder / f"{part}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


class Clock:
    """How long a run may go on."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing new is to be begun."""
        return time.monotonic() >= self._until


def go_on(
    part: str,
    wanted: dict[str, int],
    run: Callable[[str, int], Any],
    clock: Clock,
    folder: Path = RESULTS,
) -> bool:
    """Run what is wanted (runs by name) and not there yet; whether all of it is there.

    Runs of all names take turns, so that a run that is cut short has some of each.
    """
    kept = read(part, folder)
    for number in range(max(wanted.values(), default=0)):
        for name, count in wanted.items():
            if number < count and len(kept.get(name, [])) <= number:
                if clock.is_over:
                    return False
                kept.setdefault(name, []).append(run(name, number))
                print(f"{part}: {name}, {number + 1} of {count}: {kept[name][-1]}", flush=True)
                write(part, kept, folder)
    return True
