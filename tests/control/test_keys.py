"""Keys are shown once and kept as digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.control.limits.key_views import KeyRequest, LimitsRequest
from fairlead.control.limits.keys import Keys
from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.domain.quota import Quota
from fairlead.store import open_store


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    store = open_store(f"sqlite:///{tmp_path / 'fairlead.db'}")
    yield Keys(store, lambda: 100.0)
    store.close()


async def test_the_store_never_holds_the_key_itself(keys: Keys, tmp_path: Path) -> None:
    made = await keys.create("app")
    assert made.key.encode() not in (tmp_path / "fairlead.db").read_bytes()
    wal = tmp_path / "fairlead.db-wal"
    assert not wal.exists() or made.key.encode() not in wal.read_bytes()
    ((entry,), _) = await keys.entries()
    assert entry.sha256 == hashlib.sha256(made.key.encode()).hexdigest()


async def test_the_first_key_is_made_once(keys: Keys) -> None:
    assert (await keys.first()).key is not None
    assert (await keys.first()).key is None


async def test_no_first_key_is_made_again_after_all_were_revoked(keys: Keys) -> None:
    await keys.first()
    await keys.revoke("default")
    assert (await keys.first()).key is None
    assert (await keys.entries())[0] == ()


async def test_a_name_in_use_is_a_conflict_and_a_revoked_one_is_free(keys: Keys) -> None:
    await keys.create("app")
    with pytest.raises(Conflict):
        await keys.create("app")
    await keys.revoke("app")
    await keys.create("app")


@pytest.mark.parametrize("name", ["", " ", "-x", "a" * 64, "a\nb"])
async def test_a_bad_name_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(InvalidInput):
        await keys.create(name)


async def test_revoking_an_unknown_key_says_so(keys: Keys) -> None:
    with pytest.raises(NotFound):
        await keys.revoke("nobody")


@pytest.mark.parametrize("priority", [-101, 101])
async def test_a_priority_out_of_bounds_is_refused(keys: Keys, priority: int) -> None:
    with pytest.raises(InvalidInput, match="priority"):
        await keys.create("app", KeyRequest("app", priority=priority))


async def test_a_key_comes_with_its_limits_and_its_tenants(keys: Keys) -> None:
    await keys.create("app", KeyRequest("app", "acme", Quota(requests_per_minute=3)))
    await keys.tenant("acme", Quota(usd_per_day=1.5))
    ((entry,), tenants) = await keys.entries()
    assert (entry.tenant, entry.quota) == ("acme", Quota(requests_per_minute=3))
    assert tenants == {"acme": Quota(usd_per_day=1.5)}
    moved = await keys.limit("app", LimitsRequest(tenant=""))
    assert (moved.tenant, moved.limits) == (None, Quota(requests_per_minute=3))
    assert (await keys.tenant("acme")).keys == ()


async def test_a_limit_that_cannot_be_one_makes_no_key(keys: Keys) -> None:
    with pytest.raises(InvalidInput, match=r"limits\.usd_per_day"):
        await keys.create("app", KeyRequest("app", limits=Quota(usd_per_day=-1.0)))
    assert await keys.list() == []


async def test_limits_of_an_unknown_key_say_so(keys: Keys) -> None:
    with pytest.raises(NotFound):
        await keys.limit("nobody", LimitsRequest(Quota(requests_per_minute=1)))
