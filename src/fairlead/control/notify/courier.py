"""Delivers messages in the background: again with back-off, bounded, and with its failures visible.

What is to be told is decided anew at each look (`monitoring.telling`); the courier holds one
delivery for each group and says of it once that it has arrived, which the caller keeps. A control
that dies in between therefore tells it again, with the same id. A delivery that is given up is a
condition of its own for as long as the receiver has not taken anything since, and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.control.notify.sending import NotSent, Sender
from fairlead.domain.receivers import Receiver
from fairlead.gateway.records.metric_families import Family, FamilyState
from fairlead.monitoring.alerts import Condition, Figure, labels_of
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.telling import Message, Told

ATTEMPTS = 6
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 60.0
GIVEN_UP_S = 300.0
"""After a delivery was given up its receiver is left alone for so long."""

IN_FLIGHT_MAX = 100
MONITOR = "notifications"
_log = logging.getLogger(__name__)


class _Delivery(NamedTuple):
    message: Message
    task: asyncio.Task[Told | None]


@dataclass
class _Standing:
    """How a receiver stands.

    Attributes:
        failed: Deliveries given up since it last took one.
        failed_at: Unix time of the last of them.
        why: Why; without addresses and secrets.
    """

    failed: int = 0
    failed_at: float = 0.0
    why: str = ""


@dataclass
class Courier:
    """Deliveries under way, and how receivers stand.

    Attributes:
        receivers: By name of their route.
        clock: Unix time.
        sleep: Waits between two attempts.
        chance: From 0 to 1, for the jitter.
    """

    receivers: Mapping[str, Receiver]
    sender: Sender
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    _tasks: dict[str, _Delivery] = field(default_factory=dict, init=False)
    _standing: dict[str, _Standing] = field(default_factory=dict, init=False)
    _counts: Family = field(init=False)

    def __post_init__(self) -> None:
        self._counts = Family(
            "fairlead_notifications_total",
            "counter",
            "Alert messages by receiver and outcome: sent, retried, failed (given up).",
            ("receiver", "outcome"),
        )

    def start(self, message: Message) -> bool:
        """Deliver it, unless its group has one under way or its receiver is left alone for now."""
        standing = self._standing.get(message.receiver)
        is_left_alone = (
            standing is not None
            and standing.failed > 0
            and self.clock() - standing.failed_at < GIVEN_UP_S
        )
        if message.key in self._tasks or is_left_alone or len(self._tasks) >= IN_FLIGHT_MAX:
            return False
        task = asyncio.create_task(self._deliver(message))
        self._tasks[message.key] = _Delivery(message, task)
        return True

    def arrived(self) -> dict[str, Told]:
        """What has arrived since the last call, by key; to be kept."""
        found: dict[str, Told] = {}
        for key, (message, task) in list(self._tasks.items()):
            if not task.done():
                continue
            del self._tasks[key]
            if task.cancelled():
                continue
            error = task.exception()
            if error is not None:
                # Its words may have an address, and with that a secret.
                self._give_up(message, f"a defect ({type(error).__name__})")
                continue
            told = task.result()
            if told is not None:
                found[key] = told
        return found

    def conditions(self) -> tuple[Condition, ...]:
        """One for each receiver that takes nothing."""
        return tuple(
            Condition(
                labels=labels_of(monitor=MONITOR, receiver=name),
                severity=Severity.PAGE,
                summary=f"alerts do not reach {name}: {standing.why}",
                evidence=(Figure("messages given up", float(standing.failed)),),
            )
            for name, standing in sorted(self._standing.items())
            if standing.failed
        )

    def states(self) -> list[FamilyState]:
        """The metrics."""
        return [self._counts.state()]

    async def close(self) -> None:
        """End all deliveries; what has not arrived is due again later."""
        tasks, self._tasks = [delivery.task for delivery in self._tasks.values()], {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, message: Message) -> Told | None:
        receiver = self.receivers.get(message.receiver)
        why = "it is not declared any more" if receiver is None else ""
        for attempt in range(ATTEMPTS if receiver is not None else 0):
            assert receiver is not None
            if attempt:
                self._counts.inc((message.receiver, "retried"))
                await self.sleep(self._wait_s(attempt))
            try:
                await self.sender.send(receiver, message)
            except NotSent as error:
                why = str(error)
                if error.is_final:
                    break
            else:
                self._counts.inc((message.receiver, "sent"))
                self._standing.pop(message.receiver, None)
                return message.told
        self._give_up(message, why)
        return None

    def _wait_s(self, attempt: int) -> float:
        """From a half to the whole of a time that doubles, so that many do not come at once."""
        longest = min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * self.chance())

    def _give_up(self, message: Message, why: str) -> None:
        self._counts.inc((message.receiver, "failed"))
        standing = self._standing.setdefault(message.receiver, _Standing())
        standing.failed += 1
        standing.failed_at, standing.why = self.clock(), why
        _log.warning("an alert was not sent to %s: %s", message.receiver, why)
