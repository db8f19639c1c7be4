"""Suite versions that actions made of what people ask: what is kept of each, what is chosen.

A version is the cases of a gate's suite, if there is one that can grade them, and new ones: prompts
of the sample, redacted as they were kept, without an expected answer. It is a document of the store
and no blob of the registry: a text goes with its sample, or by a person's word. Nothing here acts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, zip_longest

import msgspec

from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.evaluation.cases import Case, make_case
from fairlead.evaluation.scorers import JsonSchema, Regex, Scorer
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.monitors.interface import SuggestedCase

VERSIONS_MAX = 50
"""Of each service."""
REFUSED_MAX = 10_000
"""Ids of refused cases that are remembered of each service, the last ones."""
REFUSALS_MAX = 50
"""Of each version: who refused cases, and why; events have them all."""
CUT = "cut"
"""Tag of a prompt of which only the beginning is kept: nobody asked that."""
UNGRADED = (
    "nothing can grade answers without an expected one: declare `judge`, or a gate with `regex` "
    "and a pattern or `json_schema`"
)
_WORST = (GateOutcome.FAIL, GateOutcome.ERROR, GateOutcome.INCONCLUSIVE, GateOutcome.PASS)


class FreshCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt as a case.

    Attributes:
        id: Of the case, by its text.
        request: Id of the request that asked it.
        text, topic: What was asked, and words that set its cluster apart; empty once its sample is
            deleted, or the case is refused.
        is_refused: A person said that it is none.
    """

    id: str
    request: str
    text: str
    topic: str = ""
    tags: tuple[str, ...] = ()
    is_refused: bool = False

    @property
    def case(self) -> Case:
        """As a suite has it."""
        return make_case(self.text, tags=self.tags)


class SuiteVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version, and what came of asking it.

    Attributes:
        release: Digest of the release that served, and is asked.
        at: Unix time at which it was made; `ended_at` of the verdict, None until there is one.
        alert, policy: Because of which it was made; `why` says it in words.
        incident: Number of the incident that the alert was part of; None for none.
        minimum: Least mean score of the new cases, where a gate says none.
        suites: By gate, the digest of its suite with the new cases; of the new ones alone as ``.
        kept_as: Names under which results are kept.
        said: What came of it, where there is no verdict.
        refused: Who refused cases, and why: the last `REFUSALS_MAX` times, the last one last.
    """

    id: str
    service: str
    release: str
    at: float
    alert: str
    policy: str
    why: str
    cases: tuple[FreshCase, ...]
    minimum: float
    incident: int | None = None
    suites: dict[str, str] = {}
    kept_as: tuple[str, ...] = ()
    ended_at: float | None = None
    verdicts: tuple[GateVerdict, ...] = ()
    said: str = ""
    refused: tuple[str, ...] = ()

    @property
    def asked_as(self) -> str:
        """The release's name under which results are kept: they are no others' evidence."""
        return f"{self.release}@{self.id}"

    @property
    def asked(self) -> tuple[FreshCase, ...]:
        """The cases that can be asked."""
        return tuple(case for case in self.cases if case.text)

    @property
    def holds(self) -> bool:
        """Whether what it says counts: not all of it was refused."""
        return any(not case.is_refused for case in self.cases)

    @property
    def words(self) -> str:
        """What it is and what came of it, in one line."""
        count = sum(not case.is_refused for case in self.cases)
        what = f"suite version {self.id}, {count} new cases"
        # Where there is no room for all of it, the end is what is missing.
        return f"{what} (`fairlead suite show {self.id}`): {self.outcome}"

    @property
    def outcome(self) -> str:
        """What came of it, the worst first; the reasons name cases by their ids."""
        if not self.holds:
            return "refused"
        if self.ended_at is None:
            return "they are asked; the verdict will be an event"
        told = sorted(self.verdicts, key=lambda one: _WORST.index(one.outcome))
        if len(told) < 2:
            return "".join(f"{v.gate} {v.outcome.value}: {v.reason}" for v in told) or self.said
        all_of_it = ", ".join(f"{v.gate} {v.outcome.value}" for v in told)
        return "; ".join([all_of_it, *(f"{v.gate}: {v.reason}" for v in told)])

    def without(self, ids: Collection[str], *, is_refused: bool = False) -> SuiteVersion:
        """Without the texts of these cases, and without the words that are out of them."""
        cases = tuple(
            msgspec.structs.replace(
                case, text="", topic="", is_refused=is_refused or case.is_refused
            )
            if case.id in ids
            else case
            for case in self.cases
        )
        return msgspec.structs.replace(self, cases=cases)

    @property
    def shown(self) -> SuiteVersion:
        """As it stands in lists: without what people said."""
        return self.without([case.id for case in self.cases])


class RefuseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says that cases (their ids; all if none is named) are none of the service's, and why."""

    by: str
    why: str
    cases: tuple[str, ...] = ()


def chosen(
    found: Iterable[SuggestedCase], known: Collection[str], most: int
) -> tuple[FreshCase, ...]:
    """At most `most` of them, of each topic its most typical one first, then those that differ.

    Args:
        known: Ids of cases that are left out: there already, or refused.
    """
    by_topic: dict[tuple[object, ...], list[FreshCase]] = {}
    seen = set(known)
    for one in found:
        if CUT in one.tags:
            continue
        case = make_case(one.text, tags=one.tags)
        if case.id not in seen:
            seen.add(case.id)
            fresh = FreshCase(case.id, one.request, one.text, one.topic, one.tags)
            by_topic.setdefault((one.tags, one.topic), []).append(fresh)
    rounds = chain.from_iterable(zip_longest(*by_topic.values()))
    return tuple(case for case in rounds if case is not None)[:most]


def refused_ids(versions: Iterable[SuiteVersion], service: str) -> set[str]:
    """Cases that a person has refused for a service, by their ids."""
    return {
        case.id
        for version in versions
        if version.service == service
        for case in version.cases
        if case.is_refused
    }


def needs_no_reference(scorer: Scorer) -> bool:
    """Whether it scores an answer without knowing the right one."""
    return isinstance(scorer, JsonSchema) or (
        isinstance(scorer, Regex) and scorer.pattern is not None
    )


def conditions_of(
    versions: Sequence[SuiteVersion], champions: Mapping[str, str], monitor: str
) -> list[Condition]:
    """One for each gate that the release that serves fails on the new cases, until it passes.

    Args:
        versions: The oldest first.
        champions: Digests of the releases that serve, by service.
    """
    failed: dict[tuple[str, str], Condition] = {}
    for version in versions:
        if champions.get(version.service) != version.release or not version.holds:
            continue
        for verdict in version.verdicts:
            key = (version.service, verdict.gate)
            if verdict.outcome is GateOutcome.PASS:
                failed.pop(key, None)
            elif verdict.outcome is GateOutcome.FAIL:
                failed[key] = _condition(version, verdict, monitor)
    return [failed[key] for key in sorted(failed)]


def _condition(version: SuiteVersion, verdict: GateVerdict, monitor: str) -> Condition:
    told = (
        f"{version.service}: release {short(version.release)} fails {verdict.gate} ({version.id}): "
        f"{verdict.reason}"
    )
    return Condition(
        labels=labels_of(
            monitor=monitor, service=version.service, release=version.release, gate=verdict.gate
        ),
        severity=Severity.TICKET,
        summary=told[:1_000],
    )
