"""API keys: made, shown once, kept as digests."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable

from fairlead.control.first_key import FirstKey
from fairlead.control.views import KeyView, NewKey
from fairlead.domain.api_keys import api_key_digest, new_api_key
from fairlead.domain.errors import InvalidInput
from fairlead.store.interface import KeyStore
from fairlead.store.rows import KeyRow
from fairlead.wire.snapshot import KeyEntry

PRIORITY_MAX = 100
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}")


class Keys:
    """The keys of one installation.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: KeyStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def list(self) -> list[KeyView]:
        """Keys in force, oldest first."""
        rows = await asyncio.to_thread(self._store.list_keys)
        return [_view(row) for row in rows]

    async def entries(self) -> tuple[KeyEntry, ...]:
        """Keys in force, as the gateway is told of them."""
        rows = await asyncio.to_thread(self._store.list_keys)
        return tuple(KeyEntry(row.id, row.name, row.sha256, row.priority) for row in rows)

    async def create(self, name: str, priority: int = 0) -> NewKey:
        """Make a key.

        Raises InvalidInput for a bad name or priority, Conflict for a name that is taken.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise InvalidInput(
                f"{name!r} cannot be a key's name",
                hint="up to 63 letters, digits, spaces and . _ @ -",
            )
        if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
            raise InvalidInput(f"priority {priority} is not from {-PRIORITY_MAX} to {PRIORITY_MAX}")
        return await asyncio.to_thread(self._create, name, priority)

    async def first(self) -> FirstKey:
        """Make the key `default` if there is no key at all, revoked ones included."""
        if await asyncio.to_thread(lambda: self._store.list_keys(revoked=True)):
            return FirstKey()
        return FirstKey((await self.create("default")).key)

    async def revoke(self, id_or_name: str) -> KeyView:
        """Stop accepting a key; raises NotFound."""
        row = await asyncio.to_thread(self._store.revoke_key, id_or_name, self._now())
        return _view(row)

    def _create(self, name: str, priority: int) -> NewKey:
        key = new_api_key()
        row = KeyRow(
            id="key_" + secrets.token_hex(6),
            name=name,
            sha256=api_key_digest(key),
            created_at=self._now(),
            priority=priority,
        )
        self._store.create_key(row)
        return NewKey(row.id, row.name, key, priority)


def _view(row: KeyRow) -> KeyView:
    return KeyView(row.id, row.name, row.created_at, row.revoked_at, row.priority)
