"""Tells webhooks of something that has happened: a POST with a JSON body, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.errors import Unavailable
from fairlead.targets.http import HttpFailed, request

ATTEMPTS = 3
BACK_OFF_S = 1.0
TIMEOUT_S = 10.0


async def tell(
    urls: Sequence[str],
    body: Mapping[str, Any],
    delivery: str,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Post the body to each; raises Unavailable when one of them does not answer 2xx.

    Args:
        delivery: Id of this message, the same whenever it is sent again.
    """
    data = msgspec.json.encode(body)
    untold = [place for url in urls if (place := await _tell(url, data, delivery, sleep))]
    if untold:
        raise Unavailable(f"webhooks: {'; '.join(untold)}")


async def _tell(
    url: str, data: bytes, delivery: str, sleep: Callable[[float], Awaitable[None]]
) -> str:
    """Why it does not know; empty when it does. Of its address only the host is named."""
    said = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            await sleep(BACK_OFF_S * 2 ** (attempt - 1))
        try:
            answer = await request(
                url, body=data, headers={"x-fairlead-delivery": delivery}, timeout_s=TIMEOUT_S
            )
        except HttpFailed as error:
            said = str(error)
            continue
        if 200 <= answer.status < 300:
            return ""
        said = f"answered {answer.status}"
    return f"{urlsplit(url).hostname}: {said}"
