"""API keys, limits, counters and settings of the installation: what is kept, and the interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from fairlead.domain.quota import UseRow


class KeyRow(msgspec.Struct, frozen=True):
    """An API key: the hex SHA-256 of it, never the key."""

    id: str
    name: str
    sha256: str
    created_at: float
    revoked_at: float | None = None
    priority: int = 0


class QuotaRow(msgspec.Struct, frozen=True):
    """What is declared of a key (by id) or a tenant (by name).

    Attributes:
        scope: `key` or `tenant`.
        tenant: The tenant that a key belongs to.
        document: The limits, as JSON.
    """

    scope: str
    subject: str
    tenant: str | None
    document: bytes


class KeyStore(Protocol):
    """API keys, what is declared and used of limits, and settings of the installation."""

    def create_key(self, key: KeyRow) -> None:
        """Raises Conflict when its name is taken by a key not revoked, or the key exists."""
        ...

    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        """Oldest first; with `revoked`, those revoked too."""
        ...

    def revoke_key(self, id_or_name: str, at: float) -> KeyRow:
        """Raises NotFound when no key in force has this id or name."""
        ...

    def put_quota(self, quota: QuotaRow) -> None:
        """Keep it in the place of what was declared of the same thing."""
        ...

    def quotas(self) -> list[QuotaRow]:
        """By scope and subject."""
        ...

    def put_quota_use(self, rows: Sequence[UseRow], now: float) -> None:
        """Keep these in the place of what was kept of the same seat, window and limit.

        Windows that ended before `now` are let go of.
        """
        ...

    def quota_use(self, now: float) -> list[UseRow]:
        """Of the windows that have not ended."""
        ...

    def get_setting(self, key: str) -> str | None: ...

    def set_setting(self, key: str, value: str) -> None: ...

    def setdefault_setting(self, key: str, value: str) -> str:
        """The value kept under the key; `value` is kept first when there is none."""
        ...

    def next_number(self, key: str) -> int:
        """Count up; 1 the first time. No two callers get the same number."""
        ...
