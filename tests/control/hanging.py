"""A look at the services that hangs for as long as a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fairlead.control.watching.watching import Watching

HANGS_S = 20.0
"""At the most, whatever a test does."""


@asynccontextmanager
async def hanging_look(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A look goes on inside; it ends with this."""
    gate, begun, whole = threading.Event(), threading.Event(), watching._watched

    def hangs() -> Any:
        begun.set()
        gate.wait(HANGS_S)
        return whole()

    monkeypatch.setattr(watching, "_watched", hangs)
    look = asyncio.create_task(watching.look())
    assert await asyncio.to_thread(begun.wait, HANGS_S)
    try:
        yield
    finally:
        gate.set()
        await look


@asynccontextmanager
async def hanging_store(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The same, but what a look saw is not kept inside."""
    gate, begun, keep = asyncio.Event(), asyncio.Event(), watching._keep

    async def hangs(desk: Any) -> None:
        begun.set()
        await asyncio.wait_for(gate.wait(), HANGS_S)
        await keep(desk)

    monkeypatch.setattr(watching, "_keep", hangs)
    look = asyncio.create_task(watching.look())
    await asyncio.wait_for(begun.wait(), HANGS_S)
    try:
        yield
    finally:
        gate.set()
        await look
