"""Judge models that give no verdicts.

Where a provider judges, nobody here sees what becomes of it: what asking it came to is the change.
Where a service of this installation does, the alert needs that one, whose changes are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from fairlead.control.acting.beginnings import Beginnings
from fairlead.control.judging.judging import Outage
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.store.rows import EventRow

JUDGE = "judge_down"
OUT = "judge_out"
"""Kind of event."""

PENDING_S = 60.0
SAID_MAX = 500


class JudgeWatch:
    """Remembers which judge models give no verdicts."""

    def __init__(self) -> None:
        self._out: Sequence[Outage] = ()
        self._outages = Beginnings()

    def look(self, out: Sequence[Outage], now: float) -> list[EventRow]:
        """Take in which give none now; what has come of providers since the last look."""
        self._out = out
        elsewhere = {f"{one.service} {one.rollout}": one for one in out if one.judge.provider}
        return [_event(elsewhere[name], now) for name in self._outages.among(elsewhere, now)]

    def conditions(self, now: float) -> Iterator[Condition]:
        """One for each of them."""
        for out in self._out:
            waits = 0.0 if out.oldest is None else max(0.0, now - out.oldest)
            yield Condition(
                labels=labels_of(monitor=JUDGE, service=out.service, needs=out.judge.service or ""),
                severity=Severity.TICKET,
                summary=f"{out.service}: the judge model of {out.what} gives no verdict: {out.why}"[
                    :SAID_MAX
                ],
                evidence=(Figure("oldest sample without a verdict", waits, "s"),),
                pending_s=PENDING_S,
            )


def _event(out: Outage, now: float) -> EventRow:
    """Who that is, and what asking came to; never more of the address than its host."""
    provider = out.judge.provider
    assert provider is not None
    host = urlsplit(provider.base_url).netloc.rpartition("@")[2]
    why = out.why.removeprefix("judge: ")
    return EventRow(
        now, OUT, f"the judge's provider {host} gives no verdict: {why}"[:SAID_MAX], out.service,
        data=msgspec.json.encode({"monitor": JUDGE}),
    )  # fmt: skip
