"""Who may call control."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request

from fairlead.domain.errors import Unauthorized


def guard_of(*tokens: str) -> Callable[[Request], Awaitable[None]]:
    """Lets those in who have one of the tokens; raises Unauthorized for all others."""
    expected = [f"Bearer {token}".encode() for token in tokens]

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not any(hmac.compare_digest(given, each) for each in expected):
            raise Unauthorized(
                "the control API needs its token",
                hint="Authorization: Bearer <token>; it is in run/control.token of the state",
            )

    return check
