"""What the tests of a gateway that runs alone have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone.running_gateway import SmallEngine, StartEngine


@pytest.fixture
def engine() -> Iterator[StartEngine]:
    """Start small engines; they end with the test."""
    started: list[SmallEngine] = []

    def start(name: str, delay_s: float = 0.0, **more: float | tuple[int, int]) -> SmallEngine:
        started.append(SmallEngine(name, delay_s, **more))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for made in started:
        made.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"
