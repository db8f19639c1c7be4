"""The monitor `segments` over live traffic: do declared segments fare worse than all others?

A segment is declared by the names of the API keys with which its users come: a key that is made
later counts from its first request on. Its requests are compared with all others in each outcome:
failures, refusals, short answers, bad feedback; among requests of the same endpoint and of about
the same length, and of the same three hours (`fairlead.stats.monitors.segments`). Of a session only
the first outcome counts. It shows a gap and not its cause: a segment may ask for other things.

A gap is told until somebody accepts it or the release changes. Once accepted it is told again if
its odds ratio becomes more than `TOLERATED` times as large. False ones have a probability of at
most `alpha` in all, over all time, however often something is accepted: each test that begins anew
has a smaller share of it than the one before, and these shares add up to at most all of it.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, NamedTuple

from fairlead.domain.outcomes import CLIENT_ERRORS, SHADOW
from fairlead.domain.recorded import RecordedRequest
from fairlead.domain.text_signals import length_class
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.monitors.intake import SEGMENT, Expected
from fairlead.monitoring.monitors.interface import Deaf, Document, Seen, SeenFeedback
from fairlead.monitoring.monitors.segment_lengths import ShortAnswers
from fairlead.monitoring.monitors.self_tests import bias_self_test
from fairlead.stats.monitors.evidence import RUN_LENGTH, made_with
from fairlead.stats.monitors.segments import SegmentGap

MONITOR = "segments"
ALPHA = 0.01
"""With one false alarm in `RUN_LENGTH` requests of other monitors; see `alpha_of`."""

ALPHA_MAX = 0.1
SEGMENTS_MAX = 20
FEEDBACK_MAX = 10
TOLERATED = 1.5
"""By this factor the odds ratio of an accepted gap may grow."""
ACCEPTED_MAX = 1_000_000
"""Times that a gap is accepted; more are not told apart."""
FAILURES = "failures"
REFUSALS = "refusals"
SHORT = "short answers"


def alpha_of(requests_per_false_alarm: float) -> float:
    """The probability of any false gap, by how rare a false alarm of a monitor is to be.

    A test that is never wrong but with this probability has no false alarm at all, on average, in
    whatever number of requests; it is as much more careful as the others are.
    """
    return min(ALPHA_MAX, ALPHA * RUN_LENGTH / requests_per_false_alarm)


class _Gap(NamedTuple):
    segment: str
    outcome: str
    member: float
    others: float
    log_e: float
    level: float


class SegmentMonitor(Deaf):
    """Segments of one release of one service.

    Args:
        segments: Names of API keys, by segment.
        name_of: Name of an API key, by its id in records.
        key_unit: The unit that a request of this key has where it names no session and no user:
            such requests count each by itself.
        feedback: From which value on feedback is good, by its name; other feedback is not looked
            at.

    Attributes:
        alpha: The probability of any false gap, ever.
    """

    name = MONITOR
    expects: ClassVar[Expected] = SEGMENT

    def __init__(
        self,
        service: str,
        release: str,
        segments: Mapping[str, Collection[str]],
        *,
        key_unit: Callable[[str], str],
        name_of: Callable[[str], str] = str,
        feedback: Mapping[str, float] | None = None,
        alpha: float = ALPHA,
    ) -> None:
        self.alpha = alpha
        self._feedback = dict(feedback or {})
        if not 1 <= len(segments) <= SEGMENTS_MAX or len(self._feedback) > FEEDBACK_MAX:
            raise ValueError(
                f"{len(segments)} segments, {len(self._feedback)} kinds of feedback: need 1 to "
                f"{SEGMENTS_MAX}, and at most {FEEDBACK_MAX}"
            )
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha={alpha}: must be between 0 and 1")
        self._key_unit = functools.lru_cache(maxsize=1_000)(key_unit)
        self._name_of = name_of
        self._service = service
        self._release = release
        self._segments = {name: frozenset(keys) for name, keys in segments.items()}
        said = (f"feedback/{name}" for name in self._feedback)
        self._outcomes = (FAILURES, REFUSALS, SHORT, *said)
        self._level = math.log(len(self._segments) * len(self._outcomes) / alpha)
        self._tests = self._new_tests()
        self._accepted = dict.fromkeys(self._tests, 0)
        self._short = ShortAnswers()
        self._requests = 0
        self.taken: Counter[str] = Counter(dict.fromkeys(self._segments, 0))
        declared = {name: sorted(keys) for name, keys in self._segments.items()}
        # What was seen is evidence whatever `alpha` is: the level alone goes by that.
        self._of = made_with(service, release, declared, self._feedback, ALPHA)

    def see(self, seen: Seen) -> None:
        """A request, each once, in the order (started_at, id)."""
        request = seen.request
        if request.arm == SHADOW:
            return
        self._requests += 1
        key = self._name_of(request.key)
        self.taken.update(name for name, keys in self._segments.items() if key in keys)
        self._take(request, FAILURES, seen.failed, request.started_at)
        if request.refused in (0, 1):
            self._take(request, REFUSALS, request.refused == 1, request.started_at)
        if request.completion_tokens >= 0 and not seen.failed and request.status < CLIENT_ERRORS:
            is_short = self._short.is_short(_stratum(request), request.completion_tokens)
            if is_short is not None:
                self._take(request, SHORT, is_short, request.started_at)

    def see_feedback(self, feedback: SeenFeedback) -> None:
        """Feedback on a request, each once."""
        good_from = self._feedback.get(feedback.name)
        if good_from is None or feedback.request.arm == SHADOW or math.isnan(feedback.value):
            return
        outcome = f"feedback/{feedback.name}"
        self._take(feedback.request, outcome, feedback.value < good_from, feedback.at)

    def conditions(self, now: float) -> list[Condition]:
        """What is wrong now; again and again for as long as it is."""
        return [self._condition(gap) for gap in self._gaps()]

    def standing(self) -> str:
        """How far it is, in a few words."""
        gaps = len(self._gaps())
        return f"watching, {self._requests} requests" + (f", {gaps} gaps" if gaps else "")

    def accept(self) -> None:
        """The gaps that are told are as they should be; what is known of others stays."""
        for gap in self._gaps():
            name = f"{gap.segment}/{gap.outcome}"
            self._tests[name] = self._tests[name].beyond(TOLERATED)
            self._accepted[name] = min(self._accepted[name] + 1, ACCEPTED_MAX)

    def state(self) -> Document:
        """Everything that `restore` needs."""
        return {
            "of": self._of,
            "requests": self._requests,
            "accepted": dict(self._accepted),
            "tests": {name: dict(test.state()) for name, test in self._tests.items()},
            "short": self._short.state(),
        }

    def restore(self, state: Document) -> None:
        """Go on from a state of a monitor made with the same arguments; ValueError if damaged.

        What an earlier version did not compare begins now.
        """
        tests, short = self._new_tests(), ShortAnswers()
        try:
            unknown = {name for name in tests if name.endswith(f"/{SHORT}")}
            if state["of"] != self._of or set(state["tests"]) | unknown != set(tests):
                raise ValueError("state of a monitor of other segments or outcomes")
            for name, of_test in state["tests"].items():
                tests[name].restore(of_test)
            if "short" in state:
                short.restore(state["short"])
            requests = int(state["requests"])
            kept = state["tests"]
            accepted = {name: state["accepted"][name] if name in kept else 0 for name in tests}
            if not all(isinstance(n, int) and 0 <= n <= ACCEPTED_MAX for n in accepted.values()):
                raise ValueError(f"damaged state of the monitor segments: accepted {accepted}")
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"damaged state of the monitor segments: {error!r}") from None
        self._tests, self._accepted, self._requests = tests, accepted, requests
        self._short = short

    def self_test(self) -> str:
        """Find a segment that fares worse, in data made for it; empty if it was found."""
        segments = {"made": ("member",)}
        made = SegmentMonitor("self-test", "self-test", segments, key_unit=lambda key: key)
        return bias_self_test(made)

    def _take(self, request: RecordedRequest, outcome: str, bad: bool, at: float) -> None:
        stratum = _stratum(request)
        is_session = request.unit not in ("", self._key_unit(request.key))
        session = request.unit if is_session else None
        key = self._name_of(request.key)
        for name, keys in self._segments.items():
            self._tests[f"{name}/{outcome}"].update(
                stratum, key in keys, bad, at=at, session=session
            )

    def _gaps(self) -> list[_Gap]:
        found = []
        for segment in self._segments:
            for outcome in self._outcomes:
                name = f"{segment}/{outcome}"
                test, level = self._tests[name], self._level_of(name)
                if test.log_e_max >= level and test.rates is not None:
                    found.append(_Gap(segment, outcome, *test.rates, test.log_e_max, level))
        return sorted(found, key=lambda gap: -gap.log_e)

    def _level_of(self, name: str) -> float:
        """At what evidence there is a gap: by shares 1/2, 1/6, 1/12 ... of this test's alpha."""
        times = self._accepted[name]
        return self._level + math.log((times + 1) * (times + 2))

    def _condition(self, gap: _Gap) -> Condition:
        more = "more" if gap.member > gap.others else "fewer"
        words = gap.outcome if "/" not in gap.outcome else f"bad {gap.outcome.replace('/', ' ')}"
        return Condition(
            labels=labels_of(
                monitor=MONITOR,
                service=self._service,
                release=self._release,
                segment=gap.segment,
                outcome=gap.outcome,
            ),
            severity=Severity.TICKET,
            summary=f"{self._service}: segment {gap.segment} has {more} {words} than others among "
            f"comparable requests: {gap.member:.1%} against {gap.others:.1%} in all",
            evidence=(
                Figure(f"{words} of {gap.segment}", 100.0 * gap.member, "%"),
                Figure(f"{words} of the others", 100.0 * gap.others, "%"),
                Figure("evidence (logarithm)", gap.log_e, limit=gap.level),
            ),
        )

    def _new_tests(self) -> dict[str, SegmentGap]:
        return {
            f"{segment}/{outcome}": SegmentGap()
            for segment in self._segments
            for outcome in self._outcomes
        }


def _stratum(request: RecordedRequest) -> str:
    """What is comparable."""
    return f"{request.endpoint} {length_class(max(0, request.prompt_tokens))}"
