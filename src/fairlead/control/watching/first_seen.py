"""Since when the monitors of a release have seen what they hold against what they see now."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fairlead.monitoring.conditions import Condition


class FirstSeen:
    """Unix time of the first request that each monitor has learnt from, as far as it is known.

    Args:
        names: Of the monitors.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._since: dict[str, float | None] = {}
        self._new = set(names)
        """Those that have seen nothing yet."""

    def see(self, at: float) -> None:
        """A request of that time was seen by all."""
        if self._new:
            self._since.update(dict.fromkeys(self._new, at))
            self._new.clear()

    def since(self, name: str) -> float | None:
        """Since when; None where that is not known."""
        return self._since.get(name)

    def told(self, condition: Condition, *, is_remote: bool) -> Condition:
        """With what is known of what it was held against.

        `is_remote`: whether a provider answers.
        """
        if condition.baseline is None:
            return condition
        baseline = msgspec.structs.replace(
            condition.baseline, since=self.since(condition.monitor), is_remote=is_remote
        )
        return msgspec.structs.replace(condition, baseline=baseline)

    def forget(self, name: str) -> None:
        """That one learns anew."""
        self._since.pop(name, None)
        self._new.add(name)

    def inherit(self, name: str, before: FirstSeen) -> None:
        """That one may go on with what the same one of an earlier release has learnt."""
        if name not in before._new:
            self.restore(name, before.since(name))

    def restore(self, name: str, since: float | None) -> None:
        """That one goes on from what it was, or from what was seen before it, if that is known."""
        self._new.discard(name)
        self._since[name] = since
