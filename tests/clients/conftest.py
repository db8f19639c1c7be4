from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_rig import A, Behaviour, Control, Engine, Limits, Rig, route, snapshot
from scripted import speaks

Gateway = Callable[..., Awaitable[Rig]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine that speaks all APIs."""
    made = Engine()
    made.behave = speaks
    yield await made.start()
    await made.stop()


@pytest.fixture
async def gateway(tmp_path: Path, engine: Engine) -> AsyncIterator[Gateway]:
    """Starts a gateway before the engine, which behaves as told; more is given to `Limits`."""
    control = Control()
    await control.engine.start()
    rig = Rig(tmp_path, control.engine.url)

    async def start(behave: Behaviour | None = None, **limits: float) -> Rig:
        if behave is not None:
            engine.behave = behave
        given = Limits(**{"queue_timeout_s": 5.0, "request_timeout_s": 20.0, **limits})  # type: ignore[arg-type]
        return await rig.start(snapshot(route(A, engine), limits=given))

    yield start
    await rig.stop()
    rig.socket.close()
    await control.engine.stop()
