"""Asks the providers of releases that serve their probes, and keeps what that shows.

What is stored is the truth: each answer is kept before the next batch, and the evidence of a round
in the same write as the end of it. A control that dies asks at most the last batch again, and no
answer is taken in twice. Probes go to the provider directly: no user's record, quota or figure has
them; what they cost is kept with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.errands import Errand, Work
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.outside.webhooks import tell
from fairlead.control.probing.given import given_of
from fairlead.control.probing.probe_events import event_of, happened, was_accepted
from fairlead.control.probing.probe_views import ProbesView, Role, probes_view
from fairlead.control.shipping.spec import ProbeSpec, ServiceSpec
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, FairleadError, InvalidInput, NotFound
from fairlead.domain.release import sha256_digest, short
from fairlead.evaluation.cases import Case, Suite
from fairlead.probing.bounds import RETRY_S
from fairlead.probing.course import (
    accepted,
    answered,
    begin,
    closed,
    failed,
    held_by,
    is_readable,
    wants_round,
)
from fairlead.probing.model import Given, Probing
from fairlead.registry import Registry
from fairlead.store.probes import ProbesRow, ProbeStore
from fairlead.store.rows import EventRow

AT_ONCE = 4
COMMANDS = ("accept", "run")
_Name = tuple[str, str]
"""A service and a release: what is probed."""
_log = logging.getLogger(__name__)


class Watch:
    """The probes of one release, as they are stored, and the task that asks them."""

    def __init__(
        self,
        spec: ServiceSpec,
        probes: ProbeSpec,
        probing: Probing,
        version: int,
        errand: Errand,
    ) -> None:
        self.role: Role = "champion"
        self.spec = spec
        self.probes = probes
        self.probing = probing
        self.version = version
        self.lock = asyncio.Lock()
        self.errand = errand


class Probes:
    """All champions that are probed, and the candidates of their rollouts.

    Args:
        client_of: How a release is asked, with the seconds that one answer may take.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: ProbeStore,
        registry: Registry,
        client_of: Callable[[str, float], ReplicaClient],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._client_of = client_of
        self._now = now
        self._watches: dict[_Name, Watch] = {}
        self._kept: dict[tuple[str, str], ProbesRow] = {}
        self._suites: dict[str, Suite] = {}

    async def load(self) -> None:
        """Read what is stored."""
        rows = await asyncio.to_thread(self._store.probes)
        self._kept = {(row.service, row.release): row for row in rows}

    async def close(self) -> None:
        """End all asking; what was answered stays kept."""
        for name in list(self._watches):
            await self._forget(name)

    async def advance(
        self, specs: Sequence[ServiceSpec], candidates: Sequence[ServiceSpec] = ()
    ) -> None:
        """Begin what is due, and let go of releases that are not probed any more.

        Args:
            specs: Of the services whose champion is to be probed.
            candidates: Of the releases that serve a part of a service's requests in a rollout.
        """
        wanted: dict[_Name, tuple[Role, ServiceSpec]] = {}
        for spec in candidates:
            wanted[_name_of(spec)] = "candidate", spec
        for spec in specs:
            wanted[_name_of(spec)] = "champion", spec
        wanted = {name: each for name, each in wanted.items() if each[1].probes is not None}
        for name in [name for name in self._watches if name not in wanted]:
            await self._forget(name)
        troubles: list[FairleadError] = []
        for role, spec in wanted.values():
            try:
                watch = await self._watch(spec)
                watch.role = role
                self._go_on(watch)
            except FairleadError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _go_on(self, watch: Watch) -> None:
        rest_s = min(RETRY_S, watch.probes.rule.interval_s)
        watch.errand.go_on(lambda now: self._due(watch, now), rest_s=rest_s)

    def _due(self, watch: Watch, now: float) -> Work | None:
        if not watch.probing.is_told:
            return self._tell(watch)
        if wants_round(watch.probing, now) and not held_by(watch.probing, watch.probes.rule, now):
            return self._round(watch)
        return None

    def is_diverted(self, service: str, release: str | None) -> bool:
        """Whether the fallbacks are to answer for this champion, because its provider changed."""
        watch = self._champion(service)
        if watch is None or watch.spec.release != release or watch.probing.change is None:
            return False
        return watch.probes.rule.on_change == "fallback"

    def check_ship(self, spec: ServiceSpec) -> None:
        """Raises Conflict for a rollout that compares with a champion that gets no requests."""
        view, plan = self.view(spec.service), spec.plan
        if view is None or not view.is_diverted or not (plan.steps or plan.shadow):
            return
        raise Conflict(
            f"{spec.service}: its fallbacks answer, since its champion's provider has changed: "
            "there are no requests of the champion to compare a release with",
            hint=f"`fairlead probes accept {spec.service}` lets the champion serve again; or ship "
            "with rollout.strategy immediate or blue_green and no shadow",
        )

    def view(self, service: str) -> ProbesView | None:
        """What is known by the champion's probes; None if it is not probed."""
        watch = self._champion(service)
        return None if watch is None else self._view(watch)

    def views(self) -> list[ProbesView]:
        """All of them, by service, a candidate behind its champion."""
        return [self._view(watch) for watch in self._of()]

    def _of(self, service: str | None = None) -> list[Watch]:
        found = [w for w in self._watches.values() if service in (None, w.spec.service)]
        return sorted(found, key=lambda w: (w.spec.service, w.role != "champion"))

    def _champion(self, service: str) -> Watch | None:
        return next((w for w in self._of(service) if w.role == "champion"), None)

    def _view(self, watch: Watch) -> ProbesView:
        held = held_by(watch.probing, watch.probes.rule, self._now())
        return probes_view(
            watch.spec.name,
            watch.probing,
            watch.probes.rule,
            held,
            watch.errand.trouble,
            watch.role,
        )

    def _commanded(self, service: str, command: str) -> Watch:
        """Whose probes are meant: the champion's, or the candidate's where that alone fits."""
        mine = self._of(service)
        if not mine:
            raise NotFound(
                f"no release of {service!r} is probed",
                hint="declare `probes` in its manifest, and `fairlead ship` or `apply` it",
            )
        has_changed = command == "accept"
        fitting = [w for w in mine if (w.probing.change is not None) == has_changed]
        return (fitting or mine)[0]

    async def command(self, service: str, command: str) -> ProbesView:
        """`accept` the unrequested release as the new reference, or `run` a round now."""
        if command not in COMMANDS:
            raise InvalidInput(f"{command!r} is not one of {', '.join(COMMANDS)}")
        watch = self._commanded(service, command)
        async with watch.lock:
            probing, now = watch.probing, self._now()
            if command == "accept" and probing.change is None:
                raise Conflict(f"{service}: its provider has not changed: nothing to accept")
            if command == "run" and probing.change is not None:
                raise Conflict(
                    f"{service}: its provider has changed, and nothing is asked any more",
                    hint=f"`fairlead probes accept {service}` takes its answers as the reference",
                )
            watch.errand.end_rest()
            if command == "accept":
                diverted = self._view(watch).is_diverted
                event = was_accepted(watch.spec, now, serves_again=diverted)
                await self._keep(watch, accepted(probing, now), [event])
            else:
                await self._keep(watch, msgspec.structs.replace(probing, due_at=now))
        return self._view(watch)

    async def _watch(self, spec: ServiceSpec) -> Watch:
        assert spec.probes is not None
        name = _name_of(spec)
        found = self._watches.get(name)
        if found is not None and found.probing.asked == _asked(spec.probes):
            found.spec, found.probes = spec, spec.probes
            return found
        if found is not None:
            await self._forget(name)
        probing, version, why = self._read(spec, spec.probes)
        errand = Errand(f"probes of {spec.service}", self._now)
        made = Watch(spec, spec.probes, probing, version, errand)
        if why:
            await self._keep(made, made.probing, [event_of(spec, self._now(), "probes_begun", why)])
        self._watches[name] = made
        return made

    def _read(self, spec: ServiceSpec, probes: ProbeSpec) -> tuple[Probing, int, str]:
        """What is stored of the release's probes, and its version; else begun anew, and why."""
        row = self._kept.get((spec.service, spec.release))
        new = begin(spec.service, spec.release, _asked(probes), self._now())
        if row is None:
            return new, 0, "its answers of the first rounds are the reference"
        try:
            kept = decode_json(row.document, Probing)
        except msgspec.DecodeError:
            why = "begun anew: what was kept of them cannot be read"
            return new, row.version, why
        if not is_readable(kept):
            why = "begun anew: their evidence was kept by another build and cannot be read"
            return new, row.version, why
        if kept.asked != new.asked:
            new = msgspec.structs.replace(new, accepted=kept.accepted)
            return new, row.version, "begun anew: other probes are asked"
        return kept, row.version, ""

    async def _forget(self, name: _Name) -> None:
        await self._watches.pop(name).errand.cancel()

    async def _round(self, watch: Watch) -> None:
        """Ask what the round still lacks."""
        rule = watch.probes.rule
        cases = (await self._suite(rule.suite)).sample(rule.cases)
        client = self._client_of(watch.spec.release, rule.timeout_s)
        lacking = [case for case in cases if case.id not in watch.probing.answers]
        for at in range(0, len(lacking), AT_ONCE):
            if held_by(watch.probing, rule, self._now()):
                return
            batch = lacking[at : at + AT_ONCE]
            asked = [self._ask(watch, client, case) for case in batch]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            failure: BaseException | None = None
            async with watch.lock:
                after, now = watch.probing, self._now()
                for case, given in zip(batch, answers, strict=True):
                    if isinstance(given, BaseException):
                        failure = given
                    else:
                        after = answered(after, case.id, given, now)
                if isinstance(failure, FairleadError):
                    after = failed(after, rule, failure.one_line, now)
                await self._keep(watch, after)
            if failure is not None:
                if not isinstance(failure, FairleadError):
                    raise failure
                return
        async with watch.lock:
            after = closed(watch.probing, rule, [case.id for case in cases], self._now())
            await self._keep(watch, after)

    async def _ask(self, watch: Watch, client: ReplicaClient, case: Case) -> Given:
        rule = watch.probes.rule
        body = {"temperature": rule.temperature, "seed": rule.seed}
        completion = await client.complete(
            case,
            {name: value for name, value in body.items() if value is not None},
        )
        return given_of(completion, case, watch.probes, watch.spec.price)

    async def _tell(self, watch: Watch) -> None:
        change = watch.probing.change
        if change is not None:
            body = {
                "kind": "unrequested_release",
                "service": watch.spec.service,
                "release": watch.spec.release,
                "name": watch.spec.name,
                "role": watch.role,
                "on_change": watch.probes.rule.on_change,
                "change": msgspec.to_builtins(change),
            }
            delivery = f"{watch.spec.service}/{short(watch.spec.release)}/change-{change.number}"
            await tell(watch.probes.rule.webhooks, body, delivery)
        async with watch.lock:
            await self._keep(watch, msgspec.structs.replace(watch.probing, is_told=True))

    async def _suite(self, digest: str) -> Suite:
        if digest not in self._suites:
            data = await asyncio.to_thread(self._registry.read_blob, digest)
            self._suites[digest] = Suite.from_bytes(data)
        return self._suites[digest]

    async def _keep(self, watch: Watch, after: Probing, events: Sequence[EventRow] = ()) -> None:
        """Store it with what happened; in memory it is the same only after that."""
        if after is watch.probing and not events:
            return
        now = self._now()
        rule, spec = watch.probes.rule, watch.spec
        told = [*events, *happened(spec, rule, watch.role, (watch.probing, after), now)]
        row = ProbesRow(
            after.service, after.release, now, watch.version + 1, msgspec.json.encode(after)
        )
        await asyncio.to_thread(
            lambda: self._store.commit_probes(row, expected_version=watch.version, events=told)
        )
        watch.version += 1
        watch.probing = after
        self._kept[after.service, after.release] = row
        for event in told:
            if event.kind == "unrequested_release":
                _log.error("%s: %s", event.service, event.message)


def _name_of(spec: ServiceSpec) -> _Name:
    return spec.service, spec.release


def _asked(probes: ProbeSpec) -> str:
    rule = probes.rule
    asked = [rule.suite, rule.cases, rule.temperature, rule.seed, probes.scorer]
    return sha256_digest(msgspec.json.encode(asked, order="sorted"))
