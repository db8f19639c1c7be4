from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from attack import Bystander
from gateway_rig import A, Engine, Rig, answers, route, snapshot

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]


@pytest.fixture
async def served(engine: StartEngine, serve: Serve) -> Rig:
    """A worker with one honest engine behind it."""
    one = await engine(answers("ok"))
    return await serve(snapshot(route(A, one, slots=64)))


@pytest.fixture
async def bystander(served: Rig) -> AsyncIterator[Bystander]:
    """An honest client that goes on asking during the test, each time on a new connection."""
    honest = Bystander(served.port)
    task = asyncio.ensure_future(honest.run())
    yield honest
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
