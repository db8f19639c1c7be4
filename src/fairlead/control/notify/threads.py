"""What can only wait, in threads of its own: nobody else waits for it, and they are bounded.

A thread cannot be ended. One whose server sends a byte now and then goes on after it was given up;
in the pool that control shares, some of these would be all there are, and a stop would wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

THREADS_MAX = 32
T = TypeVar("T")


class TooMany(Exception):
    """As many as may be are under way; one more is not begun."""


class Threads:
    """Threads that end with the process, if not before."""

    def __init__(self, most: int = THREADS_MAX) -> None:
        self._free = threading.Semaphore(most)

    async def run(self, call: Callable[[], T]) -> T:
        """What it returns or raises; raises TooMany. Who is cancelled leaves it to itself."""
        if not self._free.acquire(blocking=False):
            raise TooMany
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                found = call()
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                tell = _setter(done, error=error)
            else:
                tell = _setter(done, result=found)
            finally:
                self._free.release()
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(tell)

        try:
            threading.Thread(target=work, daemon=True, name="notify").start()
        except RuntimeError:  # The system lets no more begin.
            self._free.release()
            raise TooMany from None
        return await done


def _setter(
    done: asyncio.Future[T], *, result: T | None = None, error: BaseException | None = None
) -> Callable[[], None]:
    def tell() -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    return tell
