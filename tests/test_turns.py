"""Processes share the tests, which run side by side except for those that have to be alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.turns import ALONE, LARGE, TOGETHER, Turns, next_share, share_of

ROOT = Path(__file__).parent.parent

PATIENCE_S = 30.0


class Other:
    """A thread in the place of another process: it asks for its turn, and has it till told."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self.has_its_turn, self._may_end = threading.Event(), threading.Event()
        self._turns, self._alone = Turns(folder), alone
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._turns.take(alone=self._alone):
            self.has_its_turn.set()
            self._may_end.wait(PATIENCE_S)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join()
        self._turns.close()


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[Turns]:
    made = Turns(tmp_path)
    yield made
    made.close()


def test_tests_run_side_by_side(turns: Turns, tmp_path: Path) -> None:
    with turns.take(alone=False):
        other = Other(tmp_path, alone=False)
        assert other.has_its_turn.wait(PATIENCE_S)
        other.end()


@pytest.mark.parametrize(("mine", "theirs"), [(True, True), (True, False), (False, True)])
def test_alone_means_that_others_wait_on_either_side(
    turns: Turns, tmp_path: Path, mine: bool, theirs: bool
) -> None:
    with turns.take(alone=mine):
        other = Other(tmp_path, alone=theirs)
        assert not other.has_its_turn.wait(0.1)
    assert other.has_its_turn.wait(PATIENCE_S)
    other.end()


def test_who_waits_to_be_alone_is_overtaken_by_nobody(turns: Turns, tmp_path: Path) -> None:
    with ExitStack() as mine:
        mine.enter_context(turns.take(alone=False))
        alone = Other(tmp_path, alone=True)
        assert not alone.has_its_turn.wait(0.1)  # it is at the door
        late = Other(tmp_path, alone=False)
        assert not late.has_its_turn.wait(0.1)
        mine.close()
        assert alone.has_its_turn.wait(PATIENCE_S)
        assert not late.has_its_turn.is_set()
        alone.end()
        assert late.has_its_turn.wait(PATIENCE_S)
        late.end()


def test_what_is_named_is_there() -> None:
    assert [name for name in (*ALONE, *LARGE, TOGETHER) if not (ROOT / name).exists()] == []


def test_files_are_shared_and_what_shares_servers_stays_together() -> None:
    assert share_of("tests/a.py::test_x[1::2]") == "tests/a.py"
    assert share_of(f"{TOGETHER}a.py::test_x") == share_of(f"{TOGETHER}b.py::test_y")


def test_one_process_begins_with_what_is_large_and_the_others_with_what_is_small() -> None:
    waiting = ["tests/a.py", "tests/b.py", "tests/live/c.py", "tests/live/d.py", ALONE[0]]

    def taken(*, large_first: bool) -> list[str]:
        left, order = waiting.copy(), []
        while left:
            order.append(next_share(left, large_first=large_first))
            left.remove(order[-1])
        return order

    live = ["tests/live/c.py", "tests/live/d.py"]
    assert taken(large_first=True) == [ALONE[0], *live, "tests/a.py", "tests/b.py"]
    assert taken(large_first=False) == ["tests/a.py", "tests/b.py", *live, ALONE[0]]
