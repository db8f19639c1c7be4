from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fairlead.domain.errors import Conflict, NotFound
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, RolloutRow, ServiceRow

Make = Callable[..., RolloutRow]


def test_a_service_keeps_its_champion_when_its_spec_is_replaced(store: Store) -> None:
    store.put_service("bank", b'{"replicas":1}', 1.0)
    store.set_champion("bank", "sha256:a", 2.0)
    store.put_service("bank", b'{"replicas":2}', 3.0)
    row = store.service("bank")
    assert row is not None
    assert (row.spec, row.champion, row.previous, row.updated_at) == (
        b'{"replicas":2}',
        "sha256:a",
        None,
        3.0,
    )
    assert store.services() == [row]
    assert store.service("shop") is None


def test_the_champion_before_becomes_the_previous_one_and_setting_it_again_changes_nothing(
    store: Store,
) -> None:
    store.put_service("bank", b"{}", 1.0)
    for digest in ("sha256:a", "sha256:b", "sha256:b"):
        store.set_champion("bank", digest, 2.0, [EventRow(2.0, "champion", digest, "bank")])
    row = store.service("bank")
    assert row is not None
    assert (row.champion, row.previous) == ("sha256:b", "sha256:a")
    assert [e.message for e in store.events("bank")] == ["sha256:a", "sha256:b", "sha256:b"]


def test_a_champion_of_an_unknown_service_is_refused_and_its_events_are_not_kept(
    store: Store,
) -> None:
    with pytest.raises(NotFound, match="shop"):
        store.set_champion("shop", "sha256:a", 1.0, [EventRow(1.0, "champion", "x")])
    assert store.events() == []


def test_a_rollout_comes_back_as_it_was_kept_with_the_next_version(
    store: Store, rollout: Make
) -> None:
    store.put_service("bank", b"{}", 1.0)
    store.commit_rollout(rollout(), expected_version=0)
    assert store.rollout("r1") == rollout(version=1)
    store.commit_rollout(rollout(state="paused", version=1), expected_version=1)
    assert store.rollout("r1") == rollout(state="paused", version=2)
    assert store.rollout("r2") is None


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_a_rollout_with_another_version_than_expected_is_a_conflict_and_nothing_is_changed(
    store: Store, rollout: Make, expected: int
) -> None:
    store.put_service("bank", b"{}", 1.0)
    store.commit_rollout(rollout(), expected_version=0)
    with pytest.raises(Conflict, match="r1"):
        store.commit_rollout(
            rollout(state="promoted"),
            expected_version=expected,
            service=ServiceRow("bank", b"new", "sha256:b", None, 2.0),
            followed_by=rollout("r2"),
            events=[EventRow(1.0, "promoted", "")],
        )
    assert store.rollout("r1") == rollout(version=1)
    service = store.service("bank")
    assert service is not None
    assert (service.spec, service.champion) == (b"{}", None)
    assert store.rollout("r2") is None
    assert store.events() == []


def test_promotion_sets_rollout_service_and_events_in_one_step(store: Store, rollout: Make) -> None:
    store.put_service("bank", b"{}", 1.0)
    store.put_service("shop", b"{}", 1.0)
    store.commit_rollout(rollout(), expected_version=0)
    promoted = ServiceRow("bank", b'{"queue":9}', "sha256:b", "sha256:a", 20.0)
    store.commit_rollout(
        rollout(state="promoted", active=False, updated_at=20.0),
        expected_version=1,
        service=promoted,
        events=[EventRow(20.0, "promoted", "B is champion", "bank", "r1", b'{"e":120}')],
    )
    assert store.service("bank") == promoted
    assert store.service("shop") == ServiceRow("shop", b"{}", None, None, 1.0)
    (event,) = store.events(rollout="r1")
    assert (event.kind, event.data, event.id > 0) == ("promoted", b'{"e":120}', True)


def test_a_service_has_one_active_rollout_at_most(store: Store, rollout: Make) -> None:
    for name in ("bank", "shop"):
        store.put_service(name, b"{}", 1.0)
    store.commit_rollout(rollout("r1"), expected_version=0)
    with pytest.raises(Conflict, match="r1"):
        store.commit_rollout(rollout("r2"), expected_version=0)
    store.commit_rollout(rollout("r3", service="shop"), expected_version=0)
    store.commit_rollout(rollout("r1", active=False), expected_version=1)
    store.commit_rollout(rollout("r2", created_at=12.0), expected_version=0)
    with pytest.raises(Conflict, match="r2"):
        store.commit_rollout(rollout("r1", active=True), expected_version=2)
    assert [r.id for r in store.rollouts("bank")] == ["r2", "r1"]
    assert {r.id for r in store.rollouts(active=True)} == {"r2", "r3"}
    assert [r.id for r in store.rollouts("bank", active=False, limit=1)] == ["r1"]


def test_a_rollout_that_follows_another_begins_in_the_moment_in_which_that_one_ends(
    store: Store, rollout: Make
) -> None:
    store.put_service("bank", b"{}", 1.0)
    store.commit_rollout(rollout(), expected_version=0)
    with pytest.raises(Conflict, match="r1"):
        store.commit_rollout(rollout(state="s"), expected_version=1, followed_by=rollout("r2"))
    assert (store.rollout("r1"), store.rollout("r2")) == (rollout(version=1), None)
    store.commit_rollout(rollout(active=False), expected_version=1, followed_by=rollout("r2"))
    assert store.rollouts(active=True) == [rollout("r2", version=1)]


def test_rollouts_are_found_by_their_state(store: Store, rollout: Make) -> None:
    store.put_service("bank", b"{}", 1.0)
    for number, state in enumerate(("promoted", "aborted", "promoted")):
        row = rollout(f"r{number}", state=state, active=False, created_at=float(number))
        store.commit_rollout(row, expected_version=0)
    assert [r.id for r in store.rollouts("bank", state="promoted")] == ["r2", "r0"]
    assert [r.id for r in store.rollouts("bank", state="promoted", limit=1)] == ["r2"]
    assert store.rollouts("shop", state="promoted") == []


def test_rollouts_are_counted_by_service_and_state(store: Store, rollout: Make) -> None:
    assert store.count_rollouts() == {}
    for service in ("bank", "shop"):
        store.put_service(service, b"{}", 1.0)
    for number, service in enumerate(("bank", "bank", "shop")):
        row = rollout(f"r{number}", service=service, state="promoted", active=False)
        store.commit_rollout(row, expected_version=0)
    store.commit_rollout(rollout("r3", service="bank", state="shifting"), expected_version=0)
    assert store.count_rollouts() == {
        ("bank", "promoted"): 2,
        ("bank", "shifting"): 1,
        ("shop", "promoted"): 1,
    }


def test_a_rollout_of_an_unknown_service_is_refused(store: Store, rollout: Make) -> None:
    with pytest.raises(NotFound, match="bank"):
        store.commit_rollout(rollout(), expected_version=0)


def test_of_writers_that_expect_the_same_version_exactly_one_succeeds(
    store: Store, rollout: Make
) -> None:
    store.put_service("bank", b"{}", 1.0)
    store.commit_rollout(rollout(), expected_version=0)
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            store.commit_rollout(rollout(state=f"s{number}"), expected_version=1)
            outcomes.append(f"s{number}")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("conflict") == 5
    kept = store.rollout("r1")
    assert kept is not None
    assert kept.version == 2
    assert kept.state in outcomes


def test_events_are_read_in_order_from_an_id_on_or_the_newest(store: Store) -> None:
    store.add_events([EventRow(float(n), "k", str(n), "bank", "r1") for n in range(5)])
    store.add_events([EventRow(9.0, "k", "other", "shop")])
    store.add_events([])
    first = store.events(limit=2)
    assert [e.message for e in first] == ["0", "1"]
    rest = store.events("bank", "r1", after_id=first[-1].id)
    assert [e.message for e in rest] == ["2", "3", "4"]
    assert [e.message for e in store.events(newest=True, limit=2)] == ["4", "other"]
