"""What is declared and used of limits is kept, replaced, and let go of when it is over."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fairlead.domain.quota import UseRow
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.keys import KeyRow, QuotaRow


def test_a_later_declaration_replaces_the_one_before(store: Store) -> None:
    store.put_quota(QuotaRow("tenant", "acme", None, b'{"requests_per_minute":1}'))
    store.put_quota(QuotaRow("key", "k1", "acme", b"{}"))
    store.put_quota(QuotaRow("tenant", "acme", None, b'{"requests_per_minute":2}'))
    assert store.quotas() == [
        QuotaRow("key", "k1", "acme", b"{}"),
        QuotaRow("tenant", "acme", None, b'{"requests_per_minute":2}'),
    ]


def test_use_is_a_total_so_that_writing_it_twice_counts_once(store: Store) -> None:
    first, more = UseRow("l", 60, "s", 5, 120.0), UseRow("l", 60, "s", 10**18, 120.0)
    other = UseRow("l", 60, "s2", 1, 120.0)
    store.put_quota_use([first, other], 61.0)
    store.put_quota_use([first], 61.0)
    store.put_quota_use([more], 62.0)
    assert sorted(store.quota_use(63.0), key=lambda row: row.seat) == [more, other]


def test_windows_that_are_over_are_not_shown_and_let_go_of(store: Store) -> None:
    store.put_quota_use([UseRow("l", 0, "s", 5, 60.0), UseRow("l", 60, "s", 6, 120.0)], 1.0)
    assert [row.start for row in store.quota_use(61.0)] == [60]
    store.put_quota_use([], 61.0)
    assert [row.start for row in store.quota_use(0.0)] == [60]


def test_a_store_of_the_version_before_gets_the_tables_and_keeps_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}")
    store.create_key(KeyRow("k1", "app", "aa", 1.0))
    store.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE quotas; DROP TABLE quota_use; DROP TABLE probes; DROP TABLE samples;"
            "DROP TABLE documents; DROP TABLE minutes;"
            "DROP TABLE judgements; UPDATE alembic_version SET version_num='0002';"
            "ALTER TABLE records DROP COLUMN cost_usd; ALTER TABLE records DROP COLUMN refused;"
            "ALTER TABLE records DROP COLUMN malformed;"
            "ALTER TABLE records DROP COLUMN guardrail_hits;"
            "ALTER TABLE records DROP COLUMN guardrails;"
            "ALTER TABLE records DROP COLUMN blocked_by;"
            "ALTER TABLE records DROP COLUMN stratum;"
        )
    connection.close()
    again = open_store(f"sqlite:///{path}")
    assert [key.id for key in again.list_keys()] == ["k1"]
    assert again.quotas() == []
    again.close()
