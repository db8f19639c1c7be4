"""What people see of a release's probes."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.probing.course import evidence
from fairlead.probing.model import Change, Note, ProbeRule, Probing

ProbesState = Literal["changed", "failing", "held", "reference", "watching"]
Role = Literal["champion", "candidate"]


class ProbesView(msgspec.Struct, frozen=True):
    """What is known of a service's provider by its probes.

    Attributes:
        state: changed: it answers otherwise, and nobody has accepted that. failing: the probes are
            not answered. held: today's have cost what they may. reference: too few rounds yet to
            tell much. watching: it answers as it did.
        suite: Digest of the probe set; `cases` of it are asked in each round.
        rounds: Complete ones; `answered` cases of the next one are.
        evidence: That the provider has changed; `evidence_at` makes it an unrequested release.
        due_at: When the next round begins or goes on, Unix time.
        sent_today, usd_today, sent_in_all, usd_in_all: Probes, and what they cost as far as known.
        model, fingerprint: As the provider names itself.
        notes: When it came to name itself otherwise.
        is_diverted: The service's fallbacks answer because of the change.
        trouble: What keeps the probes from being kept, or a webhook from being told.
        role: champion, or the candidate of a rollout that serves a part of the requests.
    """

    service: str
    release: str
    name: str
    state: ProbesState
    suite: str
    cases: int
    interval_s: float
    rounds: int
    reference_rounds: int
    answered: int
    evidence: float
    evidence_at: float
    due_at: float
    sent_today: int
    usd_today: float
    sent_in_all: int
    usd_in_all: float
    usd_per_day: float | None
    on_change: str
    is_diverted: bool
    model: str = ""
    fingerprint: str = ""
    failing_since: float | None = None
    failure: str = ""
    held: str = ""
    trouble: str = ""
    notes: tuple[Note, ...] = ()
    change: Change | None = None
    accepted: tuple[Change, ...] = ()
    role: Role = "champion"


def probes_view(
    name: str, probing: Probing, rule: ProbeRule, held: str, trouble: str, role: Role
) -> ProbesView:
    """The view of what is stored.

    Args:
        name: The release's.
        held: Why no more probes are sent today; empty when they are.
        trouble: What keeps them from going on.
    """
    return ProbesView(
        service=probing.service,
        release=probing.release,
        name=name,
        state=_state(probing, rule, held),
        suite=rule.suite,
        cases=rule.cases,
        interval_s=rule.interval_s,
        rounds=probing.rounds,
        reference_rounds=rule.reference_rounds,
        answered=len(probing.answers),
        evidence=evidence(probing),
        evidence_at=1.0 / rule.alpha,
        due_at=probing.due_at,
        sent_today=probing.sent,
        usd_today=probing.spent_usd,
        sent_in_all=probing.sent_in_all,
        usd_in_all=probing.usd_in_all,
        usd_per_day=rule.usd_per_day,
        on_change=rule.on_change,
        is_diverted=probing.change is not None
        and rule.on_change == "fallback"
        and role == "champion",
        model=probing.model,
        fingerprint=probing.fingerprint,
        failing_since=probing.failing_since,
        failure=probing.failure,
        held=held,
        trouble=trouble,
        notes=probing.notes,
        change=probing.change,
        accepted=probing.accepted,
        role=role,
    )


def _state(probing: Probing, rule: ProbeRule, held: str) -> ProbesState:
    if probing.change is not None:
        return "changed"
    if probing.failing_since is not None:
        return "failing"
    if held:
        return "held"
    return "watching" if probing.rounds >= rule.reference_rounds else "reference"
