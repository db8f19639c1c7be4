"""What keeps services' rollouts from going on, as of the last turn of the loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fairlead.domain.errors import FairleadError

_log = logging.getLogger(__name__)


class Troubles:
    """By service; a turn's troubles take the place of those of the turn before once it has ended.

    While a turn is under way, what is told is what the turn before has met: a trouble that stays is
    there all the time.
    """

    def __init__(self) -> None:
        self._met: dict[str, FairleadError] = {}

    def of(self, service: str) -> FairleadError | None:
        """The service's trouble, if it had one."""
        return self._met.get(service)

    def met(self, troubles: Mapping[str, FairleadError]) -> None:
        """Those of a turn that has ended, by service; what is new among them is logged."""
        before, self._met = self._met, dict(troubles)
        for service, error in self._met.items():
            if service not in before or before[service].message != error.message:
                _log.error("rollout of %s: %s", service, error.one_line)
