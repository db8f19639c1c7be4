"""Which alerts of a message have arrived, where the receiver takes each by itself."""

from __future__ import annotations

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.telling import Message

GROUPS_MAX = 1_000
_Said = tuple[str, float, str]


class Arrived:
    """By group, until one of its messages has arrived as a whole; the last `GROUPS_MAX` groups."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, _Said]] = {}

    def of(self, message: Message) -> frozenset[str]:
        """Fingerprints of the alerts that have arrived as this message says them."""
        known = self._groups.get(message.key, {})
        return frozenset(
            alert.fingerprint
            for alert in (*message.firing, *message.resolved)
            if known.get(alert.fingerprint) == _said(alert)
        )

    def note(self, message: Message, alert: Alert) -> None:
        """This alert of it has arrived."""
        known = self._groups.pop(message.key, {})
        self._groups[message.key] = {**known, alert.fingerprint: _said(alert)}
        while len(self._groups) > GROUPS_MAX:
            del self._groups[next(iter(self._groups))]

    def end(self, message: Message) -> None:
        """All of it has: what is said of its alerts from now on is sent again."""
        self._groups.pop(message.key, None)


def _said(alert: Alert) -> _Said:
    return alert.state.value, alert.first_seen, alert.severity.value
