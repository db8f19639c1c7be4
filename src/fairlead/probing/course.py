"""The course of a release's probes: from one answer to the next, pure.

Rules
- A round asks each case once. It counts when all are answered, as a whole: answers of one round may
  have more in common than the provider's ways (one machine, one hour), so that the round is the
  unit, and not the answer.
- The first `base_rounds` rounds are the reference. Each later round has a distance from it, in each
  outcome: the mean share of the reference's answers that are others (agreement), of the logarithm
  of the length, of the score. A provider that is not deterministic has distances above 0 from the
  first; how large they are while nothing changes is what the rounds so far show, and a change is
  what makes them larger (`fairlead.stats.changes`).
- The evidence is the average of the outcomes' evidence. At 1/alpha the change is an unrequested
  release: recorded once, and no round is asked until a person accepts it.
- An answer is taken in once; the evidence of a round is made in the moment in which it closes.
- What is not answered is no answer: a provider that is down leaves its round open.
- What the provider says of itself (`model`, `system_fingerprint`) is noted when it changes, and is
  no evidence: it may change without the answers, and they without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec

from fairlead.probing.bounds import RETRY_S, day_of, held_by_cost
from fairlead.probing.model import (
    NOTES_MAX,
    OUTCOMES,
    ROUNDS_KEPT,
    TEXT_MAX,
    Change,
    Difference,
    Given,
    Note,
    ProbeRule,
    Probing,
    Reference,
)
from fairlead.stats.changes import ChangeTest, is_state, rounds_changed

SHOWN_MAX = 3


def begin(service: str, release: str, asked: str, now: float) -> Probing:
    """Probes of a release of which nothing is known."""
    return Probing(service=service, release=release, asked=asked, begun_at=now, due_at=now)


def digest_of_text(text: str) -> str:
    """Names an answer by its text, white space and case left out of account."""
    normal = " ".join(text.split()).casefold()
    return hashlib.blake2b(normal.encode(errors="replace"), digest_size=8).hexdigest()


def is_readable(probing: Probing) -> bool:
    """Whether its evidence can be gone on from, whoever kept it."""
    return all(name in OUTCOMES and is_state(state) for name, state in probing.tests.items())


def wants_round(probing: Probing, now: float) -> bool:
    """Whether a round is due or under way."""
    return probing.change is None and now >= probing.due_at


def held_by(probing: Probing, rule: ProbeRule, now: float) -> str:
    """Why no probe is sent today any more; empty when they may be."""
    return held_by_cost("probes", rule.usd_per_day, probing, now)


def answered(probing: Probing, case: str, given: Given, now: float) -> Probing:
    """Take in an answer; what was answered in this round stays as it is."""
    if case in probing.answers:
        return probing
    day = day_of(now)
    is_same_day = day == probing.day
    noted = _noted(probing, given, now)
    return msgspec.structs.replace(
        noted,
        answers={**probing.answers, case: given},
        day=day,
        spent_usd=given.usd + (probing.spent_usd if is_same_day else 0.0),
        sent=1 + (probing.sent if is_same_day else 0),
        sent_in_all=probing.sent_in_all + 1,
        usd_in_all=probing.usd_in_all + given.usd,
        failing_since=None,
        failure="",
    )


def failed(probing: Probing, rule: ProbeRule, why: str, now: float) -> Probing:
    """The provider did not answer; its round stays open, and is gone on with later."""
    since = now if probing.failing_since is None else probing.failing_since
    after_s = min(RETRY_S, rule.interval_s)
    return msgspec.structs.replace(
        probing, due_at=now + after_s, failing_since=since, failure=why[:TEXT_MAX]
    )


def closed(probing: Probing, rule: ProbeRule, cases: Sequence[str], now: float) -> Probing:
    """The probes after a round of which all cases are answered; the same object before."""
    if any(case not in probing.answers for case in cases) or probing.change is not None:
        return probing
    answers = {case: probing.answers[case] for case in cases}
    behind = probing.due_at + rule.interval_s <= now
    after = msgspec.structs.replace(
        probing,
        rounds=probing.rounds + 1,
        ended=(*probing.ended, now)[-ROUNDS_KEPT:],
        answers={},
        due_at=now + rule.interval_s if behind else probing.due_at + rule.interval_s,
    )
    if probing.rounds < rule.base_rounds:
        reference = {
            case: _with(probing.reference.get(case, Reference()), given)
            for case, given in answers.items()
        }
        return msgspec.structs.replace(after, reference=reference)
    tests = {name: ChangeTest(probing.tests.get(name)) for name in _outcomes(answers)}
    for name, distance in distances(probing.reference, answers).items():
        tests[name].update(distance)
    after = msgspec.structs.replace(after, tests={name: t.state() for name, t in tests.items()})
    found = _change(after, rule, tests, answers, now)
    if found is None:
        return after
    return msgspec.structs.replace(after, change=found, is_told=not rule.webhooks)


def accepted(probing: Probing, now: float) -> Probing:
    """The answers of the unrequested release become the reference, from the next round on."""
    kept = [*probing.accepted, probing.change] if probing.change else probing.accepted
    return msgspec.structs.replace(
        probing,
        begun_at=now,
        due_at=now,
        rounds=0,
        answers={},
        reference={},
        tests={},
        change=None,
        is_told=True,
        accepted=tuple(kept)[-NOTES_MAX:],
    )


def evidence(probing: Probing) -> float:
    """That the provider has changed, now; 1 before there is any."""
    return _average({name: ChangeTest(state) for name, state in probing.tests.items()})


def distances(reference: Mapping[str, Reference], answers: Mapping[str, Given]) -> dict[str, float]:
    """How far a round is from the reference in each outcome, on average over its cases."""
    far: dict[str, list[float]] = {name: [] for name in _outcomes(answers)}
    for case, given in answers.items():
        kept = reference[case]
        far["agreement"].append(1.0 - kept.said.get(given.said, 0) / kept.rounds)
        far["length"].append(abs(math.log1p(given.chars) - kept.log_chars / kept.rounds))
        if given.score is not None:
            far["score"].append(abs(given.score - kept.score / kept.rounds))
    return {name: sum(each) / len(each) for name, each in far.items()}


def _outcomes(answers: Mapping[str, Given]) -> tuple[str, ...]:
    has_score = any(given.score is not None for given in answers.values())
    return OUTCOMES if has_score else OUTCOMES[:2]


def _average(tests: Mapping[str, ChangeTest]) -> float:
    return sum(test.e for test in tests.values()) / len(tests) if tests else 1.0


def _with(kept: Reference, given: Given) -> Reference:
    return Reference(
        rounds=kept.rounds + 1,
        said={**kept.said, given.said: kept.said.get(given.said, 0) + 1},
        text=given.text,
        log_chars=kept.log_chars + math.log1p(given.chars),
        score=kept.score + (given.score or 0.0),
    )


def _change(
    probing: Probing,
    rule: ProbeRule,
    tests: Mapping[str, ChangeTest],
    answers: Mapping[str, Given],
    now: float,
) -> Change | None:
    e = _average(tests)
    if e < 1.0 / rule.alpha:
        return None
    differing = [
        Difference(case, probing.reference[case].text, given.text)
        for case, given in answers.items()
        if given.said not in probing.reference[case].said
    ]
    far = distances(probing.reference, answers)
    said = ", ".join(f"{name} {distance:.3f}" for name, distance in far.items())
    why = (
        f"{len(differing)} of {len(answers)} probes have an answer that the reference has not; "
        f"distance from the reference: {said}; evidence {e:,.0f}, {1 / rule.alpha:,.0f} were "
        "needed"
    )
    return Change(
        number=len(probing.accepted) + 1,
        at=now,
        round=probing.rounds,
        e=e,
        by_outcome={name: test.e for name, test in tests.items()},
        why=why,
        differences=tuple(differing[:SHOWN_MAX]),
        since=_since(probing, tests),
    )


def _since(probing: Probing, tests: Mapping[str, ChangeTest]) -> float:
    """When the last round ended that was as before, as far as the evidence tells."""
    behind = 1 + rounds_changed(tests.values())
    return probing.ended[-min(behind, len(probing.ended))]


def _noted(probing: Probing, given: Given, now: float) -> Probing:
    """With what the provider calls itself now, noted where that is new."""
    notes, since = list(probing.notes), (probing.begun_at, *probing.ended)[-1]
    named: dict[str, str] = {}
    for name, word in (("model", "model"), ("fingerprint", "system_fingerprint")):
        before, said = getattr(probing, name), getattr(given, name)
        named[name] = said or before
        if before and said and said != before:
            notes.append(Note(now, f"{word}: {before!r} became {said!r}", since))
    return msgspec.structs.replace(probing, notes=tuple(notes[-NOTES_MAX:]), **named)
