"""The monitors of one release: fed, asked, tested and kept together.

A monitor that fails is blind and says so; it stops no other one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from fairlead.control.watching.intakes import Intakes
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.parts import divided, joined
from fairlead.control.watching.sampling import TEXTS, Due
from fairlead.domain.decoding import decode_json
from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.monitoring.conditions import Condition, Labels
from fairlead.monitoring.monitors.intake import Intake
from fairlead.monitoring.monitors.interface import (
    GoesByVectors,
    Inherits,
    KeepsTexts,
    MayBeBlind,
    Monitor,
    Seen,
    SeenFeedback,
    SeenText,
    SuggestedCase,
)
from fairlead.monitoring.watchers import Report

MONITOR, PART = "monitor", "monitor_part"
Key = tuple[str, str]
"""Kind and key of a document."""
SELF_TEST_S = 86_400.0
CASES_S = 60.0
"""So old, at most, are the cases that are known while a look goes on."""
_log = logging.getLogger(__name__)


class ReleaseMonitors:
    """All monitors of a release of a service.

    Attributes:
        last_seen: Unix time of its last request.
        known_cases: What `suggested_cases` said last; None where it was not asked yet.
    """

    def __init__(self, service: str, release: str, make: Callable[[], Sequence[Monitor]]) -> None:
        """`make`: makes all of its monitors, new ones."""
        self.last_seen = 0.0
        self._service = service
        self._release = release
        self._make = make
        self._monitors = {monitor.name: monitor for monitor in make()}
        self._requests = 0
        self._due = Due()
        self._intakes = Intakes()
        self._asked_since = 0.0
        self._cases_about: set[Labels] = set()
        self._cases_at = float("-inf")
        self.known_cases: list[SuggestedCase] | None = None
        self._troubles: dict[str, str] = {}
        self._speechless: dict[str, str] = {}
        self._tested: dict[str, tuple[float, str]] = {}

    def see(self, seen: Seen, *, is_due: bool = False) -> None:
        """A request that it answered; `is_due`: of which texts are to be kept."""
        self.last_seen = max(self.last_seen, seen.request.started_at)
        self._requests += 1
        if is_due:
            self._due.add(seen.request.started_at)
        self._intakes.see(seen)
        self._each(lambda monitor: monitor.see(seen))

    def see_text(self, text: SeenText) -> None:
        """Texts of a request that it answered."""
        self._due = Due()
        self._each(lambda monitor: monitor.see_text(text))

    def see_feedback(self, feedback: SeenFeedback) -> None:
        """Feedback on a request that it answered."""
        self._each(lambda monitor: monitor.see_feedback(feedback))

    def conditions(self, now: float, *, is_remote: bool = False) -> list[Condition]:
        """What holds now; and with that, now and then, which cases are known.

        `is_remote`: whether a provider answers.
        """
        found: list[Condition] = []
        self._each(lambda monitor: found.extend(monitor.conditions(now)))
        if is_remote:
            found = [_of_provider(one) for one in found]
        about = {one.labels for one in found}
        if about != self._cases_about or not 0.0 <= now - self._cases_at < CASES_S:
            self._cases_about, self._cases_at = about, now
            self.suggested_cases()
        return found

    def accept(self, name: str) -> None:
        """What this monitor sees is as it should be; raises NotFound."""
        monitor = self._monitors.get(name)
        if monitor is None:
            raise NotFound(
                f"{self._service}: {name!r} is no monitor of its release",
                hint=f"there are: {', '.join(sorted(self._monitors))}",
            )
        if name in self._troubles:
            # What it has learnt may be wrong: a new one takes its place.
            self._monitors.update({new.name: new for new in self._make() if new.name == name})
            del self._troubles[name]
        else:
            monitor.accept()
        self._intakes.forget(name, self._monitors[name])
        self.known_cases, self._cases_at = None, float("-inf")

    def inherit(self, before: ReleaseMonitors) -> None:
        """Go on with what the release that served before has shown of the service's users."""
        for name, monitor in self._monitors.items():
            older = before._monitors.get(name)
            if older is None or not isinstance(monitor, Inherits):
                continue
            try:
                monitor.inherit(older.state())
            except ValueError as error:
                _log.warning("monitor %s of %s learns anew: %s", name, self._service, error)

    def suggested_cases(self) -> list[SuggestedCase]:
        """What its monitors say that a suite lacks, each request once."""
        found: dict[str, SuggestedCase] = {}

        for name, monitor in self._monitors.items():
            if name in self._troubles or not isinstance(monitor, KeepsTexts):
                continue
            try:
                found.update({case.request: case for case in monitor.suggested_cases()})
            except Exception as error:  # noqa: BLE001 - logged, and told; its watch goes on
                if name not in self._speechless:
                    _log.error("monitor %s cannot suggest cases: a defect: %s", name, trail(error))
                self._speechless[name] = f"cannot suggest cases: {defect(error)}"
            else:
                self._speechless.pop(name, None)
        self.known_cases = list(found.values())
        return self.known_cases

    def kept_requests(self) -> set[str]:
        """Ids of the requests whose texts are kept."""
        return {request for monitor in self._keeping() for request in monitor.kept_requests()}

    def forget(self, ids: Collection[str]) -> None:
        """Drop texts whose sample was deleted."""
        for monitor in self._keeping():
            monitor.forget(ids)
        if self.known_cases is not None:
            self.known_cases = [case for case in self.known_cases if case.request not in ids]

    def _keeping(self) -> Iterator[KeepsTexts]:
        return (one for one in self._monitors.values() if isinstance(one, KeepsTexts))

    def reports(self, now: float) -> Iterator[Report]:
        """What each says of itself; time and data are the caller's to say.

        Where texts do not come that should have, monitors of texts say that they see none; and so
        does any other one that takes in nothing of what it could have.
        """
        self._asked_since = self._asked_since or now
        self._intakes.count(self._monitors, self.last_seen)
        for name, monitor in self._monitors.items():
            lack = self._intakes.lack(name, monitor)
            # Nobody tests a monitor before it is asked for: from then on it is due.
            tested_at, fault = self._tested.get(name, (self._asked_since, ""))
            trouble, blindness = self._troubles.get(name, ""), _blindness_of(monitor)
            yield Report(
                name, self._service, 0.0, error=trouble or blindness,
                is_unserved=bool(blindness and not trouble),
                requests=self._due.missing if name in TEXTS else lack.requests, lacks=lack.what,
                self_tested_at=tested_at, self_test_error=fault,
            )  # fmt: skip

    def standings(self, known_until: float) -> Iterator[MonitorStanding]:
        """How far each is."""
        for name, monitor in sorted(self._monitors.items()):
            standing, vectors = self._said(name, monitor)
            tested_at, fault = self._tested.get(name, (0.0, ""))
            yield MonitorStanding(
                service=self._service,
                release=self._release,
                monitor=name,
                standing=standing,
                requests=self._requests,
                seen_until=known_until,
                self_tested_at=tested_at,
                trouble=self._troubles.get(name) or fault or self._speechless.get(name, ""),
                vectors=vectors,
            )

    def _said(self, name: str, monitor: Monitor) -> tuple[str, str]:
        """How far it is, and by which vectors it goes; one that cannot say is blind."""
        try:
            vectors = monitor.vectors if isinstance(monitor, GoesByVectors) else ""
            return monitor.standing(), vectors
        except Exception as error:  # noqa: BLE001 - logged, and told
            self._broke(name, error)
            return "cannot say how far it is", ""

    def self_test(self, now: float) -> bool:
        """Let the one whose test was longest ago test itself, if it is due."""
        due = [n for n in self._monitors if now - self._tested.get(n, (0.0, ""))[0] >= SELF_TEST_S]
        if not due:
            return False
        name = min(due, key=lambda one: (self._tested.get(one, (0.0, ""))[0], one))
        try:
            fault = self._monitors[name].self_test()
        except Exception as error:  # noqa: BLE001 - logged, and told
            _log.error("self-test of monitor %s: a defect: %s", name, trail(error))
            fault = defect(error)
        self._tested[name] = (now, fault)
        return True

    def documents(self) -> dict[Key, bytes]:
        """What is to be kept: a document of each monitor, and the parts of it (`parts`)."""
        found = {}
        for name, monitor in self._monitors.items():
            if name in self._troubles:
                continue
            try:
                document, parts = divided(monitor.state())
            except Exception as error:  # noqa: BLE001 - logged, and told
                self._broke(name, error)
                continue
            key, intake = self._key(name), self._intakes.kept(name)
            kept = _Kept(self._requests, self.last_seen, msgspec.Raw(document), self._due, intake)
            found[MONITOR, key] = msgspec.json.encode(kept)
            found.update({(PART, f"{key}/{part}"): data for part, data in parts.items()})
        return found

    def restore(self, documents: Mapping[str, bytes], parts: Mapping[str, bytes]) -> None:
        """Go on from what is kept; one that cannot begins anew, and it is logged.

        `documents`, `parts`: by key.
        """
        for name, monitor in self._monitors.items():
            document = documents.get(self._key(name))
            if document is None:
                continue
            begin = f"{self._key(name)}/"
            own = {key[len(begin) :]: part for key, part in parts.items() if key.startswith(begin)}
            try:
                kept = decode_json(document, _Kept)
                monitor.restore(joined(bytes(kept.state), own))
            except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
                _log.warning(
                    "monitor %s of %s learns anew: what was kept of it does not fit: %s",
                    name, self._service, error,
                )  # fmt: skip
            else:
                self._intakes.restore(name, kept.intake)
                self._due = kept.due if kept.requests >= self._requests else self._due
                self._requests = max(self._requests, kept.requests)
                self.last_seen = max(self.last_seen, kept.last_seen)

    @property
    def named(self) -> list[Key]:
        """Kinds and keys of what is kept of it."""
        return [(MONITOR, self._key(name)) for name in self._monitors]

    def _key(self, name: str) -> str:
        return f"{self._service}/{short(self._release)}/{name}"

    def _each(self, what: Callable[[Monitor], object]) -> None:
        for name, monitor in self._monitors.items():
            if name in self._troubles:
                continue
            try:
                what(monitor)
            except Exception as error:  # noqa: BLE001 - logged, and told
                # It would go on from a state that may be wrong: it is blind until it is made anew.
                self._broke(name, error)

    def _broke(self, name: str, error: Exception) -> None:
        """It is blind from now on; of two defects the first one is told."""
        if name not in self._troubles:
            _log.error("monitor %s of %s: a defect: %s", name, self._service, trail(error))
            self._troubles[name] = defect(error)


def _of_provider(condition: Condition) -> Condition:
    """The same, of a release whose answers are a provider's."""
    if condition.baseline is None:
        return condition
    baseline = msgspec.structs.replace(condition.baseline, is_remote=True)
    return msgspec.structs.replace(condition, baseline=baseline)


def _blindness_of(monitor: Monitor) -> str:
    return monitor.blindness if isinstance(monitor, MayBeBlind) else ""


class _Kept(msgspec.Struct):
    """What is kept of a monitor."""

    requests: int
    last_seen: float
    state: msgspec.Raw
    due: Due = msgspec.field(default_factory=Due)
    intake: dict[str, Intake] = {}


def last_seen(document: bytes) -> float:
    """When a release was asked last, by what is kept of one of its monitors; 0 if unreadable."""
    try:
        return decode_json(document, _Kept).last_seen
    except msgspec.DecodeError:
        return 0.0
