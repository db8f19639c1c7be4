"""API keys: made, shown once, kept as digests; and what may be used of them and of tenants."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable

import msgspec

from fairlead.control.limits.first_key import FirstKey
from fairlead.control.limits.key_views import KeyRequest, KeyView, LimitsRequest, NewKey, TenantView
from fairlead.domain.api_keys import api_key_digest, new_api_key
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Damaged, InvalidInput, NotFound
from fairlead.domain.quota import NO_QUOTA, Quota, changed, check_quota
from fairlead.store.keys import KeyRow, KeyStore, QuotaRow
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

    async def entries(self) -> tuple[tuple[KeyEntry, ...], dict[str, Quota]]:
        """Keys in force and tenants' limits, as the gateway is told of them."""
        return await asyncio.to_thread(self._entries)

    async def create(self, name: str, asked: KeyRequest | None = None) -> NewKey:
        """Make a key.

        Raises InvalidInput for a bad name, limit or priority, Conflict for a name that is taken.
        """
        _check_name(name, "a key's name")
        request = asked or KeyRequest(name)
        _check_limits(LimitsRequest(request.limits, request.tenant))
        if not -PRIORITY_MAX <= request.priority <= PRIORITY_MAX:
            raise InvalidInput(
                f"priority {request.priority} is not from {-PRIORITY_MAX} to {PRIORITY_MAX}"
            )
        return await asyncio.to_thread(self._create, request)

    async def first(self) -> FirstKey:
        """Make the key `default` if there is no key at all, revoked ones included."""
        if await asyncio.to_thread(lambda: self._store.list_keys(revoked=True)):
            return FirstKey()
        return FirstKey((await self.create("default")).key)

    async def revoke(self, id_or_name: str) -> KeyView:
        """Stop accepting a key; raises NotFound."""
        row = await asyncio.to_thread(self._store.revoke_key, id_or_name, self._now())
        return _view(row, None)

    async def limit(self, id_or_name: str, asked: LimitsRequest) -> KeyView:
        """Change a key's limits as far as the request names them; raises NotFound."""
        _check_limits(asked)
        return await asyncio.to_thread(self._limit, id_or_name, asked)

    async def tenant(self, name: str, limits: Quota = NO_QUOTA) -> TenantView:
        """Change a tenant's limits as far as they are named, and show them."""
        _check_limits(LimitsRequest(limits, name))
        return await asyncio.to_thread(self._tenant, name, limits)

    def _entries(self) -> tuple[tuple[KeyEntry, ...], dict[str, Quota]]:
        known = self._quotas()
        entries = []
        for row in self._store.list_keys():
            declared = known.get(("key", row.id))
            tenant = declared.tenant if declared is not None else None
            entries.append(
                KeyEntry(row.id, row.name, row.sha256, tenant, _quota(declared), row.priority)
            )
        tenants = {s: _quota(row) for (scope, s), row in known.items() if scope == "tenant"}
        return tuple(entries), tenants

    def _create(self, asked: KeyRequest) -> NewKey:
        key = new_api_key()
        row = KeyRow(
            id="key_" + secrets.token_hex(6),
            name=asked.name,
            sha256=api_key_digest(key),
            created_at=self._now(),
            priority=asked.priority,
        )
        quota = changed(NO_QUOTA, asked.limits)
        if asked.tenant or quota != NO_QUOTA:
            # Before the key, which is never without them then.
            self._put("key", row.id, asked.tenant or None, quota)
        self._store.create_key(row)
        return NewKey(row.id, row.name, key, row.priority)

    def _limit(self, id_or_name: str, asked: LimitsRequest) -> KeyView:
        rows = self._store.list_keys()
        named = [row for row in rows if row.id == id_or_name]
        named += [row for row in rows if row.name == id_or_name]
        if not named:
            raise NotFound(f"no key in force has the id or name {id_or_name}")
        row = named[0]
        before = self._quotas().get(("key", row.id))
        tenant = before.tenant if before is not None else None
        if asked.tenant is not None:
            tenant = asked.tenant or None
        return _view(row, self._put("key", row.id, tenant, changed(_quota(before), asked.limits)))

    def _tenant(self, name: str, limits: Quota) -> TenantView:
        known = self._quotas()
        quota = _quota(known.get(("tenant", name)))
        if limits != NO_QUOTA:
            quota = changed(quota, limits)
            self._put("tenant", name, None, quota)
        of_tenant = {s for (scope, s), row in known.items() if row.tenant == name}
        keys = tuple(row.name for row in self._store.list_keys() if row.id in of_tenant)
        return TenantView(name, quota, keys)

    async def list(self) -> list[KeyView]:
        """Keys in force, oldest first."""
        rows = await asyncio.to_thread(self._store.list_keys)
        known = await asyncio.to_thread(self._quotas)
        return [_view(row, known.get(("key", row.id))) for row in rows]

    def _put(self, scope: str, subject: str, tenant: str | None, quota: Quota) -> QuotaRow:
        row = QuotaRow(scope, subject, tenant, msgspec.json.encode(quota))
        self._store.put_quota(row)
        return row

    def _quotas(self) -> dict[tuple[str, str], QuotaRow]:
        return {(row.scope, row.subject): row for row in self._store.quotas()}


def _quota(row: QuotaRow | None) -> Quota:
    if row is None:
        return NO_QUOTA
    try:
        return decode_json(row.document, Quota)
    except msgspec.DecodeError as error:
        raise Damaged(
            f"the limits of {row.scope} {row.subject} in the store cannot be read: {error}"
        ) from None


def _check_name(name: str, what: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be {what}", hint="up to 63 letters, digits, spaces and . _ @ -"
        )


def _check_limits(asked: LimitsRequest) -> None:
    """Raises InvalidInput; 0 takes a limit away, and an empty tenant the key out of its tenant."""
    if asked.tenant:
        _check_name(asked.tenant, "a tenant's name")
    check_quota("limits.", changed(NO_QUOTA, asked.limits))


def _view(row: KeyRow, declared: QuotaRow | None) -> KeyView:
    tenant = declared.tenant if declared is not None else None
    return KeyView(
        row.id, row.name, row.created_at, row.revoked_at, tenant, _quota(declared), row.priority
    )
