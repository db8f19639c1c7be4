"""What the REST API takes and gives of fault drills."""

from __future__ import annotations

import msgspec

from fairlead.domain.fault import Fault, FaultKind


class DrillRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks for.

    Attributes:
        fault: `wrong`, `slow`, `format`, `refusal`, `toxic` or `error`.
        rate: Probability in (0, 1] with which an answer is met.
        share: Of the units that meet it; in shadow, of the requests that are copied. None for 5 %,
            or in shadow for all.
        harm: Requests that may be served badly at most; in shadow none is.
        shadow: Only copies of requests meet it.
    """

    fault: FaultKind
    rate: float = 1.0
    delay_ms: float = 2_000.0
    share: float | None = None
    harm: int = 20
    shadow: bool = False


class DrillView(msgspec.Struct, frozen=True):
    """A drill as people see it.

    Attributes:
        result: `running`, `caught`, `missed`, or `ended` for another reason, which says nothing.
        by: The metric that caught it; empty if none has.
        requests, users: Who met it, live; in shadow nobody does. `copies` did there.
        seconds: From the first request that could meet it to the decision.
        expected_requests: Requests that would meet a release which is worse by two margins until it
            is caught, as `fairlead rollout plan` forecasts; None where it forecasts none.
        notes: What should be known of it.
    """

    id: str
    service: str
    fault: Fault
    shadow: bool
    share: float
    harm: int
    scheduled: bool
    result: str
    state: str
    reason: str
    advice: str
    by: str
    requests: int
    users: int
    copies: int
    seconds: float | None
    expected_requests: int | None
    created_at: float
    notes: list[str] = []


class DrillsView(msgspec.Struct, frozen=True):
    """A service's drills, as its status shows them.

    Attributes:
        running: The one that goes on now.
        next_at: When the next one is due; None without a schedule.
        last: What became of the last scheduled one; empty before the first has ended.
        missed: By fault, what the last scheduled drill of it was missed by: an alarm for as long as
            none of that fault is caught.
    """

    running: DrillView | None
    next_at: float | None
    last: str
    missed: dict[str, str]
