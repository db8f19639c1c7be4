"""Whether a drift that raised an alarm is over: evidence for its end, from the bet that raised it.

A bet's factor e is about the likelihood of an observation since the change, against what it is at
the limit of the reference. Read backwards, 1/e is evidence that the change is over. It is summed as
Page's CUSUM (1954): never below nothing, since the end may come at any time. While the change goes
on as the bet says, a false end comes once in `FALSE_END` observations, at most (Lorden 1971); where
it goes on smaller than that, sooner, and the watch that has begun anew finds it again. Where what
is now lies between the reference's limit and the bet, nothing is decided for long: it is not over.
"""

from __future__ import annotations

import math

FALSE_END = 1e4
"""Observations to a false end, at least, on average, while the change goes on."""
LEVEL = math.log(FALSE_END)


class Ending:
    """Evidence that a change is over, as its logarithm: 0 to `LEVEL`."""

    def __init__(self, against: float = 0.0) -> None:
        """Goes on from evidence `against` the change; raises ValueError if it is none."""
        if not (isinstance(against, int | float) and 0.0 <= against < LEVEL):
            raise ValueError(
                f"stored evidence for an end {against!r}: must be from 0 to below {LEVEL}"
            )
        self.against = float(against)

    def update(self, log_e: float) -> bool:
        """Take in an observation by the logarithm of the bet's factor; true if it is over."""
        self.against = max(0.0, self.against - log_e)
        return self.against >= LEVEL
