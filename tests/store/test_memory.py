"""What the store holds in memory is bounded, however much is in it."""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.store import open_store
from fairlead.store.database import CACHE_KB, POOL_SIZE, open_database
from fairlead.store.rows import RequestRow, SpoolCursor

COUNT = 16_000
"""So many that a connection by SQLite's own measure keeps and sorts as much as it may."""
CONNECTION_KB = 192
"""What a connection holds besides its pages: the schema and prepared statements."""
FIGURES_KB_MAX = 4096


@pytest.fixture
def held_kb() -> Callable[[], tuple[float, float]]:
    """SQLite's own count of what it holds in this process, and the most since the last call."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        used, most = library.sqlite3_memory_used, library.sqlite3_memory_highwater
    except AttributeError:
        pytest.skip("this Python hides the functions of its SQLite")
    used.restype = most.restype = ctypes.c_int64
    return lambda: (used() / 1024, most(1) / 1024)


@pytest.fixture
def url(tmp_path: Path, request_row: Callable[..., RequestRow]) -> str:
    """A store with many records."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    rows = [request_row(f"{n:032d}", float(n), duration_ms=n % 977) for n in range(COUNT)]
    store.ingest("b", rows, [], SpoolCursor(1, 1))
    store.close()
    return url


def test_figures_of_many_records_are_read_in_little_memory(
    url: str, held_kb: Callable[[], tuple[float, float]]
) -> None:
    store = open_store(url)
    before, _ = held_kb()
    (figures,) = store.release_figures(since=0.0, until=float(COUNT))
    _, most = held_kb()
    store.close()
    assert figures.requests == COUNT
    assert most - before < FIGURES_KB_MAX


def test_connections_keep_little_of_what_they_have_read(
    url: str, held_kb: Callable[[], tuple[float, float]]
) -> None:
    database = open_database(url)
    before, _ = held_kb()
    with contextlib.ExitStack() as open_ones:
        for _ in range(POOL_SIZE):
            connection = open_ones.enter_context(database.reading("reading it all"))
            connection.exec_driver_sql("SELECT max(error) FROM records").all()
    after, _ = held_kb()
    database.close()
    assert after - before < POOL_SIZE * (CACHE_KB + CONNECTION_KB)
