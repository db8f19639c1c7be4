"""What the REST API takes and gives of API keys, tenants and their limits."""

from __future__ import annotations

import msgspec

from fairlead.domain.quota import NO_QUOTA, Quota


class KeyView(msgspec.Struct, frozen=True):
    """An API key, without the key itself."""

    id: str
    name: str
    created_at: float
    revoked_at: float | None
    tenant: str | None = None
    limits: Quota = NO_QUOTA
    priority: int = 0


class NewKey(msgspec.Struct, frozen=True):
    """A key just made. It is shown this once and never stored."""

    id: str
    name: str
    key: str
    priority: int = 0


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for a new key of this name; with limits, and as one of a tenant's keys.

    Attributes:
        priority: Where requests have to wait, those of a higher one go first; -100 to 100.
    """

    name: str
    tenant: str | None = None
    limits: Quota = NO_QUOTA
    priority: int = 0


class LimitsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes the limits that it names; 0 takes one away.

    Attributes:
        tenant: Whose key it is from now on; empty for nobody's.
    """

    limits: Quota = NO_QUOTA
    tenant: str | None = None


class TenantView(msgspec.Struct, frozen=True):
    """A tenant: what its keys may use together, and their names."""

    name: str
    limits: Quota
    keys: tuple[str, ...]
