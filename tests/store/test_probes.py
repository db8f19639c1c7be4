"""What is known by probes is kept whole, with its events, and never over what is newer."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.domain.errors import Conflict
from fairlead.store.interface import Store
from fairlead.store.probes import ProbesRow
from fairlead.store.rows import EventRow

ROW = ProbesRow("bank", "sha256:a", 5.0, 0, b'{"rounds":1}')


def test_each_commit_is_the_next_version_with_its_events(store: Store) -> None:
    store.commit_probes(ROW, expected_version=0)
    later = msgspec.structs.replace(ROW, updated_at=6.0, document=b'{"rounds":2}')
    event = EventRow(6.0, "unrequested_release", "other answers", service="bank")
    store.commit_probes(later, expected_version=1, events=[event])
    assert store.probes() == [msgspec.structs.replace(later, version=2)]
    assert [e.kind for e in store.events("bank")] == ["unrequested_release"]


def test_what_is_newer_is_not_written_over_and_nothing_is_told(store: Store) -> None:
    store.commit_probes(ROW, expected_version=0)
    event = EventRow(6.0, "unrequested_release", "other answers", service="bank")
    for expected in (0, 2):
        with pytest.raises(Conflict, match="changed by someone else"):
            store.commit_probes(ROW, expected_version=expected, events=[event])
    assert [row.version for row in store.probes()] == [1]
    assert store.events("bank") == []


def test_releases_of_a_service_are_kept_apart(store: Store) -> None:
    other = msgspec.structs.replace(ROW, release="sha256:b", updated_at=4.0)
    for row in (ROW, other):
        store.commit_probes(row, expected_version=0)
    assert [row.release for row in store.probes()] == ["sha256:b", "sha256:a"]
