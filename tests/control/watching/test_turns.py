"""People's turns: soon, or a word that it is not; what has begun is done whoever still waits."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.control.watching.turns import Turns
from fairlead.domain.errors import NotFound, Unavailable


async def test_what_has_begun_is_done_later_and_what_has_not_is_not_done() -> None:
    turns, gate, done = Turns("a look", wait_s=0.02), asyncio.Event(), list[str]()

    async def slowly() -> None:
        await gate.wait()
        done.append("slowly")

    async def soon() -> str:
        done.append("soon")
        return "soon"

    with pytest.raises(Unavailable, match="may be done later") as late:
        await turns.take(slowly)
    assert late.value.http_status == 503
    assert turns.is_taken
    with pytest.raises(Unavailable, match="this was not done: a look does not come to its end"):
        await turns.take(soon)
    gate.set()
    async with turns:
        assert done == ["slowly"]
    assert await turns.take(soon) == "soon"


async def test_who_goes_away_before_its_turn_has_changed_nothing() -> None:
    turns, done = Turns("a look"), list[str]()

    async def note() -> None:
        done.append("noted")

    async with turns:
        asking = asyncio.create_task(turns.take(note))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await turns.take(note)
    assert done == ["noted"], "once"


async def test_what_goes_wrong_is_raised_and_what_goes_wrong_late_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns, gate = Turns("a look", wait_s=0.02), asyncio.Event()

    async def missing() -> None:
        raise NotFound("there is no silence")

    async def missing_late() -> None:
        await gate.wait()
        raise NotFound("there is no incident")

    with pytest.raises(NotFound):
        await turns.take(missing)
    with pytest.raises(Unavailable):
        await turns.take(missing_late)
    gate.set()
    async with turns:
        pass
    await asyncio.sleep(0)
    assert "there is no incident" in caplog.text
    assert "no silence" not in caplog.text
