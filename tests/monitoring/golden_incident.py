"""An incident from its first alert to its end, as the documentation shows it.

A release that fails a quarter of its requests is promoted; a policy goes back to the one before.
"""

from __future__ import annotations

import hashlib

from fairlead.domain.release import short
from fairlead.monitoring.actions import ActionKind, ActionPolicy, Circumstances
from fairlead.monitoring.burning import Bucket, Severity, assess
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import Desk, Duties, Look, note_done, step
from fairlead.monitoring.editing import note_incident
from fairlead.monitoring.impact import impact_of
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.postmortem import postmortem
from fairlead.monitoring.promising import conditions_of

DAY_MINUTES = 1_440
NINE = 1_767_225_600.0 + 9 * 3_600.0
UP = Objective(ObjectiveKind.AVAILABILITY, 0.995)
A, B = (f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in "ab")
CHANGES = (
    Change(
        NINE - 1_800.0, "replica", "replica r-2 ended: out of memory",
        labels_of(service="bank", release=A, replica="r-2"),
    ),
    Change(
        NINE - 300.0, "release", "release b takes over (ro-41c7): 2 replicas ready for all traffic",
        labels_of(service="bank", release=B),
    ),
)  # fmt: skip
BACK = ActionPolicy(ActionKind.ROLL_BACK, ("slo",))


def bank() -> Incident:
    """The incident once it is closed."""
    return _bank()[0]


def bank_page() -> str:
    """It as a page, a month after the service began."""
    incident, minutes = _bank()
    ended = incident.members[0].last_seen
    return postmortem(incident, NINE + 7_200.0, [
        impact_of("bank", UP, minutes, incident.opened_at, ended)
    ])  # fmt: skip


def _bank() -> tuple[Incident, list[Bucket]]:
    minutes = [Bucket(NINE - 60.0 * n, 40, 0) for n in range(30 * DAY_MINUTES, -1, -1)]
    desk, champion = Desk(), B
    for minute in range(1, 60):
        now = NINE + 60.0 * minute
        minutes.append(Bucket(now, 40, 10 if champion == B else 0))
        found = conditions_of("bank", assess(UP, minutes[-3 * DAY_MINUTES :], now))
        seen = Circumstances(champion, CHANGES[-1].at, A if champion == B else None)
        look = Look(now, found, (("slo", "bank"),), changes=CHANGES, circumstances={"bank": seen})
        desk, _, actions = step(desk, Duties(actions={"bank": (BACK,)}), look)
        for entry in actions:
            champion = entry.target
            outcome = f"from release b back to {short(A)}: rollout ro-6b1f"
            desk = note_done(desk, entry, outcome, now + 2.0)
        if minute == 24:
            words = "b was built from the wrong checkpoint"
            desk = note_incident(desk, 1, "ana", words, now + 13.0)
    (incident,) = desk.incidents
    return incident, minutes


def platform() -> Incident:
    """One of no service: alerts do not reach anybody."""
    found = Condition(
        labels_of(monitor="notifications", receiver="bank/pager"), Severity.PAGE,
        "alerts do not reach bank/pager: events.pagerduty.com: answered 500",
    )  # fmt: skip
    (incident,) = step(Desk(), Duties(), Look(NINE, (found,), (found.seen_by,))).desk.incidents
    return incident
