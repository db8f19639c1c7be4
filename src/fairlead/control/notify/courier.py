"""Delivers messages in the background: again with back-off, bounded, and with its failures visible.

What is to be told is decided anew at each look (`monitoring.telling`); the courier holds one
delivery for each group and says of it once that it has arrived, which the caller keeps. A control
that dies in between therefore tells it again, with the same id. A delivery that is given up is a
condition of its own for as long as the receiver has not taken anything since and something is due
to it, other than that very condition; and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.control.notify.partly import Said, said
from fairlead.control.notify.sending import NotSent, Sender
from fairlead.domain.receivers import Receiver
from fairlead.gateway.records.metric_families import Family, FamilyState
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.telling import Message, Told

ATTEMPTS = 6
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 60.0
GIVEN_UP_S = 300.0
"""After a delivery was given up its receiver is left alone for so long; where the receiver has only
refused what it said, its group is."""

IN_FLIGHT_MAX = 20
"""Deliveries to one receiver at a time."""

MONITOR = "notifications"
_log = logging.getLogger(__name__)


class _Delivery(NamedTuple):
    message: Message
    task: asyncio.Task[Told | None]


class _Failure(NamedTuple):
    """What was given up of one group since that was last taken.

    Attributes:
        times: How often.
        at: When the last delivery was, by the courier's clock.
        why: Why; without addresses and secrets.
        is_final: Whether the receiver has refused it, and may take others.
        said: What it said, where the receiver takes each alert by itself and took or refused them:
            a message that says more is tried. None otherwise.
    """

    times: int
    at: float
    why: str
    is_final: bool
    said: frozenset[tuple[str, Said]] | None = None

    def is_in_the_way(self, message: Message) -> bool:
        """Of its own group: whether it would only be refused again."""
        return self.said is None or _told(message) <= self.said


@dataclass
class Courier:
    """Deliveries under way, and those that were given up.

    Attributes:
        receivers: By name of their route.
        clock: Seconds that go on whatever is done to the time of day.
        sleep: Waits between two attempts.
        chance: From 0 to 1, for the jitter.
    """

    receivers: Mapping[str, Receiver]
    sender: Sender
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    _tasks: dict[str, _Delivery] = field(default_factory=dict, init=False)
    _failures: dict[str, dict[str, _Failure]] = field(default_factory=dict, init=False)
    _waiting: set[str] = field(default_factory=set, init=False)
    _counts: Family = field(init=False)

    def __post_init__(self) -> None:
        self._counts = Family(
            "fairlead_notifications_total",
            "counter",
            "Alert messages by receiver and outcome: sent, retried, failed (given up), and refused "
            "(addresses of a mail that others got).",
            ("receiver", "outcome"),
        )

    def start_all(self, due: Sequence[Message]) -> None:
        """Start what is due at this look; what is not due any more has failed no more."""
        self._waiting.clear()
        keys = {message.key for message in due}
        for failures in self._failures.values():
            for key in failures.keys() - keys:
                del failures[key]
        for message in due:
            self.start(message)

    def start(self, message: Message) -> bool:
        """Deliver it, unless its group has one under way or its receiver is left alone for now."""
        if not _is_about_itself(message):
            self._waiting.add(message.key)
        under_way = sum(one.message.receiver == message.receiver for one in self._tasks.values())
        is_full = message.key in self._tasks or under_way >= IN_FLIGHT_MAX
        if is_full or self._is_left_alone(message):
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
        """One for each receiver that does not take what is due to it since the last look."""
        found = []
        for name, failures in sorted(self._failures.items()):
            due = [failure for key, failure in failures.items() if key in self._waiting]
            if due and name in self.receivers:
                last = max(due, key=lambda failure: failure.at)
                count = float(sum(failure.times for failure in due))
                condition = Condition(
                    labels=labels_of(monitor=MONITOR, receiver=name),
                    severity=Severity.PAGE,
                    summary=f"alerts do not reach {name}: {last.why}",
                    evidence=(Figure("messages given up", count),),
                )
                found.append(condition)
        return tuple(found)

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
        """What the receiver knows after that, where it is more than before."""
        receiver = self.receivers.get(message.receiver)
        why, is_final = "it is not declared any more" if receiver is None else "", False
        arrived, takes_others = frozenset[str](), False
        for attempt in range(ATTEMPTS if receiver is not None else 0):
            assert receiver is not None
            if attempt:
                self._counts.inc((message.receiver, "retried"))
                await self.sleep(self._wait_s(attempt))
            try:
                refused = await self.sender.send(receiver, message)
            except NotSent as error:
                why, is_final, arrived = str(error), error.is_final, error.arrived or frozenset()
                is_told = error.arrived is not None and error.is_answered
                takes_others = is_told and (is_final or bool(arrived))
                if is_final:
                    break
            else:
                self._sent(message, refused)
                return message.told
        told = _told(message) if takes_others else None
        self._give_up(message, why, is_final=is_final or takes_others, said=told)
        return message.told_of(arrived) if arrived else None

    def _is_left_alone(self, message: Message) -> bool:
        now = self.clock()
        return any(
            failure.is_in_the_way(message) if key == message.key else not failure.is_final
            for key, failure in self._failures.get(message.receiver, {}).items()
            if now - failure.at < GIVEN_UP_S
        )

    def _sent(self, message: Message, refused: int) -> None:
        """It takes something again: what it has refused of other groups stays refused."""
        name = message.receiver
        self._counts.inc((name, "sent"))
        if refused:
            self._counts.inc((name, "refused"), refused)
            _log.warning("%d of the addresses of %s refused an alert", refused, name)
        self._failures[name] = {
            key: failure
            for key, failure in self._failures.get(name, {}).items()
            if failure.is_final and key != message.key
        }

    def _wait_s(self, attempt: int) -> float:
        """From a half to the whole of a time that doubles, so that many do not come at once."""
        longest = min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * self.chance())

    def _give_up(
        self,
        message: Message,
        why: str,
        *,
        is_final: bool = False,
        said: frozenset[tuple[str, Said]] | None = None,
    ) -> None:
        self._counts.inc((message.receiver, "failed"))
        failures = self._failures.setdefault(message.receiver, {})
        before = failures.get(message.key)
        times = 1 if before is None else before.times + 1
        failures[message.key] = _Failure(times, self.clock(), why, is_final, said)
        _log.warning("an alert was not sent to %s: %s", message.receiver, why)


def _told(message: Message) -> frozenset[tuple[str, Said]]:
    """What it says of each alert."""
    return frozenset((one.fingerprint, said(one)) for one in (*message.firing, *message.resolved))


def _is_about_itself(message: Message) -> bool:
    """Whether it only says that it does not arrive, and so would go on saying it."""
    return all(
        alert.of.get("monitor") == MONITOR and alert.of.get("receiver") == message.receiver
        for alert in (*message.firing, *message.resolved)
    )
