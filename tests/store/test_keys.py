from __future__ import annotations

import threading

import pytest

from fairlead.domain.errors import Conflict, NotFound
from fairlead.store.interface import Store
from fairlead.store.keys import KeyRow


def test_a_name_is_free_again_once_its_key_is_revoked(store: Store) -> None:
    store.create_key(KeyRow("k1", "app", "aa", 1.0))
    with pytest.raises(Conflict, match="app"):
        store.create_key(KeyRow("k2", "app", "bb", 2.0))
    assert store.revoke_key("app", 3.0) == KeyRow("k1", "app", "aa", 1.0, 3.0)
    store.create_key(KeyRow("k2", "app", "bb", 4.0))
    assert [k.id for k in store.list_keys()] == ["k2"]
    assert [k.id for k in store.list_keys(revoked=True)] == ["k1", "k2"]


def test_the_same_key_cannot_be_kept_twice_not_even_when_revoked(store: Store) -> None:
    store.create_key(KeyRow("k1", "app", "aa", 1.0))
    store.revoke_key("k1", 2.0)
    with pytest.raises(Conflict):
        store.create_key(KeyRow("k2", "other", "aa", 3.0))


def test_revoking_goes_by_id_before_name_and_only_once(store: Store) -> None:
    store.create_key(KeyRow("k1", "k2", "aa", 1.0))
    store.create_key(KeyRow("k2", "app", "bb", 2.0))
    assert store.revoke_key("k2", 3.0).name == "app"
    assert store.revoke_key("k2", 3.0).id == "k1"
    with pytest.raises(NotFound, match="k2"):
        store.revoke_key("k2", 4.0)


def test_a_setting_is_kept_replaced_and_not_overwritten_by_a_default(store: Store) -> None:
    assert store.get_setting("secret") is None
    assert store.setdefault_setting("secret", "first") == "first"
    assert store.setdefault_setting("secret", "second") == "first"
    store.set_setting("secret", "third")
    assert store.get_setting("secret") == "third"


def test_no_two_callers_get_the_same_number(store: Store) -> None:
    numbers: list[int] = []

    def count() -> None:
        for _ in range(10):
            numbers.append(store.next_number("snapshot"))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 41))
    assert store.next_number("other") == 1
