"""How the texts of one release are watched."""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import InvalidInput

DRIFT_MIN, DRIFT_MAX = 1_000, 10_000
"""Least texts are what a reference needs (`fairlead.stats.drift.reference.PROMPTS_MIN`)."""
RATES_MIN, RATES_MAX = 200, 10_000
RUN_LENGTH_MAX = 1e9


class TextSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the monitors of texts learn from, and what is an alarm. All texts are of the sample.

    Attributes:
        drift_texts: So many first prompts (and answers) are the reference of drift.
        drift_texts_later: So many are, once they have come, if they are twice as many at least.
        rate_texts: So many first texts are the reference of loops, languages and injection.
        texts_per_false_alarm: Texts of the sample between two false alarms of all these monitors
            together, at least, on average (approximate where texts depend on each other).
        same_cause: Texts that are looping or in a language for one cause, such as a conversation,
            come in groups of so many at most; design effect of these two monitors.
    """

    drift_texts: int = 1_500
    drift_texts_later: int = 8_000
    rate_texts: int = 1_000
    texts_per_false_alarm: float = 1e6
    same_cause: float = 4.0

    def __post_init__(self) -> None:
        """Raises InvalidInput for what cannot be watched by."""
        bounds = {
            "drift_texts": (DRIFT_MIN, DRIFT_MAX),
            "drift_texts_later": (DRIFT_MIN, DRIFT_MAX),
            "rate_texts": (RATES_MIN, RATES_MAX),
            "texts_per_false_alarm": (1e3, RUN_LENGTH_MAX),
            "same_cause": (1.0, 10.0),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidInput(
                    f"settings of the monitors of texts: {name}={value}: "
                    f"must be from {least:,g} to {most:,g}"
                )
