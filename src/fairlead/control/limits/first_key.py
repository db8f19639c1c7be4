"""The answer of `POST /api/v1/keys/first`; apart, so that `fairlead up` imports little."""

from __future__ import annotations

import msgspec


class FirstKey(msgspec.Struct, frozen=True):
    """The first key if it was made just now, else None: there were keys already."""

    key: str | None = None
