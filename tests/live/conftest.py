"""Live tests run the whole of fairlead with the example's real models."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import BANKING, Installation, running


@pytest.fixture(scope="session")
def questions() -> list[tuple[str, str]]:
    """What customers ask, with the right intent."""
    with (BANKING / "traffic.csv").open(newline="", encoding="utf-8") as rows:
        return [(row["text"], row["category"]) for row in csv.DictReader(rows)]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A running installation of its own."""
    with running(tmp_path / "state") as made:
        made.make_key()
        yield made
