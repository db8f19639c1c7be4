"""A rolling restart of a gateway that runs alone: nobody notices."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.cli.root import app
from fairlead.domain.errors import Unavailable
from standalone.running_gateway import KEY, KEYS, RunningGateway, StartEngine, running, write
from support.load import Load, is_whole

pytestmark = pytest.mark.timeout(400)

RESTARTS = 2


def restart(config: Path, *options: str) -> str:
    """`fairlead gateway restart`, and what it said."""
    arguments = ["gateway", "restart", "--config", str(config), *options]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture
def same_temporary(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command looks where the gateway is."""
    monkeypatch.setattr("tempfile.tempdir", str(config.parent / "tmp"))


async def _some_more(load: Load) -> None:
    """Until twenty more answers, most of them streams, have ended."""
    enough = len(load.replies) + 20
    async with asyncio.timeout(120):
        while True:
            if len(load.replies) >= enough:
                return
            await asyncio.sleep(0.05)


async def _under_load(gateway: RunningGateway, config: Path) -> Load:
    load = Load(
        gateway.address, KEY, [("hello", "x")], 20.0, streamed=0.7, feedback=False,
        service="bank", open_max=30,
    )  # fmt: skip
    stop = asyncio.Event()
    sending = asyncio.create_task(load.run(stop))
    for _ in range(RESTARTS):
        await _some_more(load)
        assert "new worker serves: 2 of 2" in await asyncio.to_thread(restart, config)
    await _some_more(load)
    stop.set()
    await sending
    return load


@pytest.mark.slow
@pytest.mark.usefixtures("same_temporary")
def test_restarts_under_streaming_load_break_nothing(engine: StartEngine, config: Path) -> None:
    """Streams take a second, so each restart meets many of them."""
    one = engine("a stream of twenty-one", pause_s=0.05)
    write(config, f"name: main, replicas: [{one.url}]", top=KEYS + "workers: 2\n")
    with running(config) as gateway:
        gateway.until(lambda: len(gateway.workers) == 2)
        first = set(gateway.workers)
        load = asyncio.run(_under_load(gateway, config))
        assert load.broken == []
        assert [reply for reply in load.replies if not is_whole(reply)] == []
        gateway.until(lambda: len(gateway.workers) == 2, "the old workers end")
        assert not first & set(gateway.workers)
        assert gateway.output.count("restarted; ") == RESTARTS
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.output
        assert "starting it again" not in gateway.output


@pytest.mark.usefixtures("same_temporary")
def test_a_restart_of_what_does_not_run_is_said_so(engine: StartEngine, config: Path) -> None:
    write(config, f"name: main, replicas: [{engine('one').url}]")
    (config.parent / "tmp").mkdir()
    with pytest.raises(Unavailable, match="no gateway of yours runs on"):
        restart(config)
    with running(config) as gateway:
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.says("restarted; ")
        with pytest.raises(Unavailable, match="no gateway of yours runs on"):
            restart(config.with_name("other.yaml"))
        gateway.stop()
    with pytest.raises(Unavailable, match="no gateway of yours runs on"):
        restart(config)


def test_a_watched_file_is_reloaded_by_itself(engine: StartEngine, config: Path) -> None:
    one, two = engine("one"), engine("two")
    write(config, f"name: main, replicas: [{one.url}]")
    with running(config, "--watch") as gateway:
        config.write_text("keys: none\n")
        gateway.says("not reloaded, the old configuration stays:")
        write(config, f"name: main, replicas: [{two.url}]")
        gateway.says("as version 2")
        assert gateway.output.count("not reloaded") == 1, "what was said is not said again"
        gateway.stop()
