from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from gateway_rig import Behaviour, Control, Engine, Rig, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def engine() -> AsyncIterator[StartEngine]:
    """Starts engines; all are stopped at the end."""
    started: list[Engine] = []

    async def start(behave: Behaviour | None = None, name: str = "engine") -> Engine:
        made = Engine(name)
        if behave is not None:
            made.behave = behave
        started.append(made)
        return await made.start()

    yield start
    for made in started:
        await made.stop()


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    made = Control()
    await made.engine.start()
    yield made
    await made.engine.stop()


@pytest.fixture
async def rig(tmp_path: Path, control: Control) -> AsyncIterator[Rig]:
    """A worker that is not started yet."""
    made = Rig(tmp_path, control.engine.url)
    yield made
    await made.stop()
    made.socket.close()


@pytest.fixture
async def serve(rig: Rig) -> Serve:
    """Starts the worker on a kept snapshot."""

    async def start(kept: Snapshot | None) -> Rig:
        return await rig.start(kept)

    return start
