"""What control asks beside its turns is begun when it is due, and after a rest if it has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.control.errands import Errand, Work
from fairlead.domain.errors import Unavailable

REST_S = 60.0


class Asked:
    """Work that a test lets end, and the errand that has it done."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.errand = Errand("bias of bank", lambda: self.now)
        self.begun = 0
        self.is_due = True
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    def due(self, now: float) -> Work | None:
        assert now == self.now
        return self.work() if self.is_due else None

    async def work(self) -> None:
        self.begun += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error

    async def turn(self) -> None:
        """A turn of the loop, and what was begun ends if it may."""
        self.errand.go_on(self.due, rest_s=REST_S)
        if self.errand.task is not None:
            await asyncio.wait([self.errand.task], timeout=None if self.may_end.is_set() else 0.0)


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    made = Asked()
    yield made
    await made.errand.cancel()


async def test_nothing_is_begun_before_the_last_has_ended_or_when_nothing_is_due(
    asked: Asked,
) -> None:
    asked.is_due = False
    await asked.turn()
    assert (asked.begun, asked.errand.task) == (0, None)
    asked.is_due = True
    await asked.turn()
    asked.now += 1.0
    await asked.turn()
    assert (asked.begun, asked.errand.alive_at) == (1, 1_000.0), "it may be stuck"
    asked.may_end.set()
    await asked.turn()
    await asked.turn()
    assert (asked.begun, asked.errand.alive_at) == (2, 1_001.0)


@pytest.mark.parametrize(
    ("error", "shown", "logged"),
    [
        (Unavailable("no replica"), "no replica", "bias of bank: no replica"),
        (ZeroDivisionError("oh"), "ZeroDivisionError", "bias of bank: a defect: "),
    ],
)
async def test_after_a_failure_it_rests_and_shows_why_until_the_next_has_ended(
    asked: Asked, error: Exception, shown: str, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked.error = error
    asked.may_end.set()
    await asked.turn()
    for _ in range(2):
        asked.now += REST_S / 4
        await asked.turn()
        assert shown in asked.errand.trouble
    assert asked.begun == 1
    assert [record.message for record in caplog.records if logged in record.message]
    asked.error = None
    asked.now += REST_S
    await asked.turn()
    assert (asked.begun, shown in asked.errand.trouble) == (2, True)
    await asked.turn()
    assert (asked.begun, asked.errand.trouble) == (3, "")


async def test_its_rest_can_be_ended(asked: Asked) -> None:
    asked.error = Unavailable("no replica")
    asked.may_end.set()
    await asked.turn()
    await asked.turn()
    assert asked.begun == 1
    asked.errand.end_rest()
    await asked.turn()
    assert asked.begun == 2


async def test_what_is_under_way_ends_when_it_is_cancelled(asked: Asked) -> None:
    await asked.errand.cancel()
    await asked.turn()
    await asked.errand.cancel()
    assert asked.errand.task is not None
    assert asked.errand.task.cancelled()
