"""Two vLLM servers for all tests of this folder, and a gateway before them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_rig import Control, Rig
from vllm_rig import Gateway, before

from support.vllm.environment import folder, is_ready
from support.vllm.servers import Server

REQUIRED = "FAIRLEAD_REQUIRE_VLLM"
"""Set where a missing environment is a failure and not a reason to skip."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def environment() -> Path:
    """The environment that `make vllm` made."""
    found = folder()
    if not is_ready(found):
        reason = f"there is no vLLM in {found}; `make vllm` sets it up"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def started(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers, started together."""
    logs = tmp_path_factory.mktemp("vllm")
    made = [Server(environment, logs, name) for name in ("one", "two")]
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()


@pytest.fixture
def servers(started: list[Server]) -> list[Server]:
    """Both ready; one that a test has killed is started again."""
    for server in started:
        server.start()
    for server in started:
        server.await_ready()
    return started


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    made = Control()
    await made.engine.start()
    yield made
    await made.engine.stop()


@pytest.fixture
async def gateway(tmp_path: Path, control: Control) -> AsyncIterator[Gateway]:
    """Starts a gateway before servers, given by their addresses."""
    rig = Rig(tmp_path, control.engine.url)

    async def start(*urls: str, **more: Any) -> Rig:
        return await rig.start(before(*urls, **more))

    yield start
    await rig.stop()
    rig.socket.close()
