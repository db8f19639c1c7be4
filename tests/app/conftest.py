from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from supervisor_run import Run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def begin(stubborn: str = "") -> Run:
        made.append(Run(tmp_path, stubborn))
        made[-1].wait(lambda: len(made[-1].lines("up")) >= 4)
        return made[-1]

    yield begin
    for run in made:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()
