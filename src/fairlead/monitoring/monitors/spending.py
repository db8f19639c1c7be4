"""The monitor `cost`: what the service and each of its keys spend, and what a request costs.

Three watches, the slowest of which is the most careful:
- *By the calendar* (`fairlead.stats.monitors.spending`): money and tokens of the service and of
  each key, by hour and by day, held against the same hour of the week or day of the week. It learns
  for three weeks. These weeks are the keys' and not the release's: `inherit` hands them on.
- *A surge of a key* (`fairlead.stats.monitors.surge`): its requests or tokens within five minutes,
  five times the highest that it has had. It learns for an hour.
- *Per request* (`fairlead.stats.monitors.larger`): money, tokens, and tokens of the answer, held
  against the release's own first two thousand requests.

Keys are bounded: who has been away for longest is forgotten. An outburst is told until an hour
after its hour or day has ended; a rise until somebody accepts it. Accepting makes what is told
now the usual, and keeps all that was learnt of everything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

from fairlead.domain.outcomes import SHADOW
from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.monitors.intake import SPENT, Expected
from fairlead.monitoring.monitors.interface import Deaf, Document, Seen
from fairlead.monitoring.monitors.meters import HOUR_S, UNITS, Finding, Subject
from fairlead.monitoring.monitors.of_release import stored_since
from fairlead.monitoring.monitors.self_tests import cost_self_test
from fairlead.stats.monitors.evidence import RUN_LENGTH
from fairlead.stats.monitors.larger import LEARN, LargerWatch

MONITOR = "cost"
KEYS_MAX = 500
PER_REQUEST = ("usd", "tokens", "answer_tokens")
_SWEPT = 2
"""Subjects that are brought up to date with each request, so that no request does it for all."""
_SERVICE = ""
_REQUEST_WORDS = {"usd": "costs", "tokens": "tokens", "answer_tokens": "tokens of answers"}


class Spent(NamedTuple):
    """What one request took; None where it is not known."""

    usd: float | None
    tokens: float | None
    answer_tokens: float | None


class CostMonitor(Deaf):
    """What one release of one service costs, and who spends it.

    Args:
        name_of: Name of an API key, by its id in records.
        keys_max: Keys that are watched at most. A false alarm about any of them is as rare as one
            about a single key would be otherwise.
        requests_per_false_alarm: About what a request costs. Rises of what is spent are as much
            rarer, or more frequent, as this is more, or less, than a million.
    """

    name = MONITOR
    expects: ClassVar[Expected] = SPENT

    def __init__(
        self,
        service: str,
        release: str,
        *,
        name_of: Callable[[str], str] = str,
        keys_max: int = KEYS_MAX,
        requests_per_false_alarm: float = RUN_LENGTH,
    ) -> None:
        if not 1 <= keys_max <= 10_000:
            raise ValueError(f"keys_max={keys_max}: must be from 1 to 10,000")
        self._service = service
        self._release = release
        self._name_of = name_of
        self._keys_max = keys_max
        self._run_length = requests_per_false_alarm
        self._at = 0.0
        self._hour = -1
        self._behind: list[str] = []
        self._subjects: dict[str, Subject] = {_SERVICE: self._new_subject(_SERVICE)}
        self._per_request = self._new_watches()
        self._learnt_since: dict[str, float] = {}
        self.taken: Counter[str] = Counter()

    def see(self, seen: Seen) -> None:
        """A request, each once, in the order (started_at, id)."""
        request = seen.request
        self._at = at = max(self._at, request.started_at)
        spent = spent_by(seen)
        self.taken[""] += any(value is not None for value in spent)
        key = "" if request.arm == SHADOW else request.key
        for name in dict.fromkeys((_SERVICE, key)):
            self._subject(name).add(at, spent.usd or 0.0, spent.tokens or 0.0)
        self._sweep(at)
        if not seen.failed:
            for measure, value in spent._asdict().items():
                if value is not None:
                    watch = self._per_request[measure]
                    if not watch.learnt:
                        self._learnt_since[measure] = at
                    watch.update(value)

    def conditions(self, now: float) -> list[Condition]:
        """What is wrong now; again and again for as long as it is."""
        return [*self._spent(now), *self._requests_cost()]

    def standing(self) -> str:
        """How far it is, in a few words."""
        days = self._subjects[_SERVICE].days
        learnt = max(watch.learnt for watch in self._per_request.values())
        keys = len(self._subjects) - 1
        if days.is_learning:
            return f"learning: {days.learnt} of 21 days, {learnt} of {LEARN} requests; {keys} keys"
        if learnt < LEARN:
            return f"learning: {learnt} of {LEARN} requests; {keys} keys"
        return f"watching, {keys} keys"

    def accept(self) -> None:
        """What is told now is as it should be; what is not told now stays as it was learnt.

        Who spends more than usual does so as usual from now on; of what requests take, only what is
        told is learnt anew.
        """
        for subject in self._subjects.values():
            subject.accept(self._at)
        fresh = self._new_watches()
        for measure, watch in self._per_request.items():
            if watch.is_larger:
                self._per_request[measure] = fresh[measure]

    def state(self) -> Document:
        """Everything that `restore` needs."""
        return {
            "at": self._at,
            "hour": self._hour,
            "behind": list(self._behind),
            "subjects": [[name, subject.state()] for name, subject in self._subjects.items()],
            "per_request": {name: watch.state() for name, watch in self._per_request.items()},
            "learnt_since": dict(self._learnt_since),
            "run_length": self._run_length,
        }

    def restore(self, state: Document) -> None:
        """Go on from a state of a monitor made with the same arguments; ValueError if damaged."""
        try:
            subjects = self._restored(state)
            watches, since = self._new_watches(), dict[str, float]()
            if set(state["per_request"]) != set(watches):
                raise ValueError("damaged state of the monitor cost: other measures")
            # With another setting what requests cost is learnt anew; who spends what is not.
            if state.get("run_length", RUN_LENGTH) == self._run_length:
                for name, kept in state["per_request"].items():
                    watches[name].restore(kept)
                    at_first = stored_since(state.get("learnt_since", {}), name)
                    if at_first is not None:
                        since[name] = at_first
            at, hour = float(state["at"]), int(state["hour"])
            behind = [name for name in state["behind"] if name in subjects]
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"damaged state of the monitor cost: {error!r}") from None
        self._at, self._subjects, self._per_request = at, subjects, watches
        self._learnt_since = since
        self._hour, self._behind = hour, behind

    def inherit(self, state: Document) -> None:
        """Take over what an earlier release's monitor of the same service knows of who spends what.

        What a request costs is learnt anew. Raises ValueError, and changes nothing, if the state is
        damaged.
        """
        try:
            subjects, at = self._restored(state), float(state["at"])
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"damaged state of the monitor cost: {error!r}") from None
        self._at, self._subjects, self._hour = at, subjects, -1

    def self_test(self) -> str:
        """Find an outburst, a surge and dear requests in data made for it; empty if all were."""
        return cost_self_test(CostMonitor("self-test", "self-test"))

    def _restored(self, state: Document) -> dict[str, Subject]:
        entries = state["subjects"]
        if not isinstance(entries, list) or len(entries) > self._keys_max + 1:
            raise ValueError("damaged state of the monitor cost: it is of more keys")
        subjects: dict[str, Subject] = {}
        for name, kept in entries:
            if not isinstance(name, str) or name in subjects:
                raise ValueError("damaged state of the monitor cost: a key is there twice")
            subjects[name] = self._new_subject(name)
            subjects[name].restore(kept)
        if _SERVICE not in subjects:
            raise ValueError("damaged state of the monitor cost: the service itself is missing")
        return subjects

    def _subject(self, name: str) -> Subject:
        """The subject, as the one that was seen last; who was away for longest makes room."""
        found = self._subjects.pop(name, None)
        if found is None:
            found = self._new_subject(name)
            if len(self._subjects) > self._keys_max:
                oldest = next(each for each in self._subjects if each != _SERVICE)
                del self._subjects[oldest]
        self._subjects[name] = found
        return found

    def _new_subject(self, name: str) -> Subject:
        is_key = name != _SERVICE
        rarer = (self._keys_max if is_key else 1) * self._run_length / RUN_LENGTH
        return Subject(rarer=rarer, surges=is_key)

    def _sweep(self, at: float) -> None:
        """A few are brought up to date with each request, all of them once an hour."""
        hour = int(at // HOUR_S)
        if hour != self._hour:
            self._hour, self._behind = hour, list(self._subjects)
        for name in self._behind[-_SWEPT:]:
            if name in self._subjects:
                self._subjects[name].roll(at)
        del self._behind[-_SWEPT:]

    def _new_watches(self) -> dict[str, LargerWatch]:
        return {
            measure: LargerWatch(run_length=len(PER_REQUEST) * self._run_length)
            for measure in PER_REQUEST
        }

    def _spent(self, now: float) -> Iterator[Condition]:
        for name, subject in self._subjects.items():
            by_kind: dict[str, list[Finding]] = {}
            for found in subject.findings(now):
                by_kind.setdefault(found.kind, []).append(found)
            for kind, all_found in by_kind.items():
                yield self._condition(name, kind, all_found)

    def _condition(self, key: str, kind: str, found: list[Finding]) -> Condition:
        who = self._name_of(key) if key else ""
        return Condition(
            labels=labels_of(
                monitor=MONITOR, service=self._service, release=self._release, key=who, kind=kind
            ),
            severity=Severity.TICKET,
            summary=f"{self._service}: {f'key {who}' if who else 'the service'} {found[0].words}",
            evidence=tuple(figure for each in found for figure in each.figures),
        )

    def _requests_cost(self) -> Iterator[Condition]:
        for measure, watch in self._per_request.items():
            edge, limit = watch.edge, watch.limit
            if not watch.is_larger or edge is None or limit is None:
                continue
            unit = UNITS["usd" if measure == "usd" else "tokens"]
            what = f"share of requests with more than {edge:g} {unit}"
            yield Condition(
                labels=labels_of(
                    monitor=MONITOR,
                    service=self._service,
                    release=self._release,
                    kind=f"{measure}_per_request",
                ),
                severity=Severity.TICKET,
                summary=f"{self._service}: requests take more {_REQUEST_WORDS[measure]} than when "
                f"the release began: {watch.recent:.0%} of the latest are above {edge:g} {unit}",
                evidence=(Figure(what, 100.0 * watch.recent, "%", 100.0 * limit),),
                baseline=Baseline(Compared.BOTH, self._learnt_since.get(measure)),
            )


def spent_by(seen: Seen) -> Spent:
    """What one request took."""
    request = seen.request
    prompt, answer = request.prompt_tokens, request.completion_tokens
    return Spent(
        request.cost_usd if request.cost_usd >= 0.0 else None,
        float(prompt + answer) if prompt >= 0 and answer >= 0 else None,
        float(answer) if answer >= 0 else None,
    )
