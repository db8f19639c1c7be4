"""Which alerts of a message have arrived, where the receiver takes each by itself."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.telling import Message

GROUPS_MAX = 1_000
AGAIN_S = 3_600.0
"""After so long an alert that has arrived is said again, where others of its group are refused:
people may have closed it over there."""
Said = tuple[str, float, str]


class Arrived:
    """By group, until one of its messages has arrived as a whole; the last `GROUPS_MAX` groups."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: Unix time in seconds."""
        self._clock = clock
        self._groups: dict[str, dict[str, tuple[Said, float]]] = {}

    def of(self, message: Message) -> frozenset[str]:
        """Fingerprints of the alerts that have arrived as this message says them."""
        now, known = self._clock(), self._groups.get(message.key, {})
        found = set[str]()
        for alert in (*message.firing, *message.resolved):
            before, at = known.get(alert.fingerprint, (None, 0.0))
            if before == said(alert) and 0.0 <= now - at < AGAIN_S:
                found.add(alert.fingerprint)
        return frozenset(found)

    def note(self, message: Message, alert: Alert) -> None:
        """This alert of it has arrived."""
        known = self._groups.pop(message.key, {})
        self._groups[message.key] = {**known, alert.fingerprint: (said(alert), self._clock())}
        while len(self._groups) > GROUPS_MAX:
            del self._groups[next(iter(self._groups))]

    def end(self, message: Message) -> None:
        """All of it has: what is said of its alerts from now on is sent again."""
        self._groups.pop(message.key, None)


def said(alert: Alert) -> Said:
    """What a message says of an alert."""
    return alert.state.value, alert.first_seen, alert.severity.value
