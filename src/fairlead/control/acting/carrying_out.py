"""Carries out what the deciders of alerts have decided.

Each entry has an absolute target: called again after a crash, `carry_out` sees that the target is
reached, or on its way, and does nothing more. It belongs into the control plane's lock, as all that
changes rollouts and services does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import msgspec

from fairlead.control.acting.case_grading import CaseGrading
from fairlead.control.acting.circumstances import Surroundings
from fairlead.control.acting.diversions import Diversion, Diversions
from fairlead.control.acting.fresh_cases import FreshCases
from fairlead.control.acting.gate_runs import GateRuns
from fairlead.control.acting.proposals import Proposal, Proposals
from fairlead.control.acting.tightenings import Tightening, Tightenings
from fairlead.control.judging.judging import Judging
from fairlead.control.probing.probes import Probes
from fairlead.control.shipping.rollouts import WHY_MAX, Rollouts
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.control.views import RollbackRequest
from fairlead.control.world.fleet import Fleet
from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.domain.guardrail import flagging
from fairlead.domain.release import short
from fairlead.monitoring.actions import ActionEntry, ActionKind, ActionPolicy
from fairlead.registry import Registry
from fairlead.rollout.machine import Command
from fairlead.rollout.plan import REPLICAS_MAX
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, ServiceRow

KIND = "action"
VERDICT_S = 480.0
"""So long the outcome of an action waits for a verdict; what takes longer is told without it."""
TOLD_MAX = 200
"""Events of a service among which is looked for one that was told already."""


class Acting:
    """All that is done without anyone asking.

    Args:
        now: Unix time in seconds.

    Attributes:
        diversions, fresh_cases, gate_runs, proposals, tightenings: What actions leave behind.
        surroundings: What there is to act on.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        rollouts: Rollouts,
        fleet: Fleet,
        probes: Probes,
        judging: Judging,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._overview = rollouts.overview
        self._probes = probes
        self._now = now
        self.diversions = Diversions(store, now)
        self.gate_runs = GateRuns(store, registry, self._overview, now)
        grading = CaseGrading(store, registry, judging.asker, now)
        self.fresh_cases = FreshCases(store, self._overview, grading, now)
        self.proposals = Proposals(store, now)
        self.tightenings = Tightenings(store, now)
        self.surroundings = Surroundings(
            store, self._overview, fleet, self.is_diverted, self.tightenings.names
        )
        self._steps = {
            ActionKind.ROLL_BACK: self._roll_back,
            ActionKind.PAUSE_ROLLOUT: self._pause,
            ActionKind.FALLBACK: self._divert,
            ActionKind.SCALE: self._scale,
            ActionKind.RERUN_GATE: self._rerun,
            ActionKind.PROPOSE_RETRAINING: self._propose,
            ActionKind.TIGHTEN_GUARDRAIL: self._tighten,
            ActionKind.ADD_CASES: self._add_cases,
        }

    async def load(self) -> None:
        """Read what is stored."""
        await self.diversions.load()
        await self.tightenings.load()
        await self.gate_runs.load()
        await self.fresh_cases.load()

    async def close(self) -> None:
        """End what is asked in the background."""
        await self.gate_runs.close()
        await self.fresh_cases.close()

    async def advance(self) -> None:
        """Go on with gates and new cases that are asked, and end diversions that are over."""
        champions = self._overview.champions()
        await self.diversions.tidy(champions)
        await self.tightenings.tidy(champions, self._flagging)
        await self.gate_runs.advance(champions)
        await self.fresh_cases.advance(champions)

    def _flagging(self, release: str) -> tuple[str, ...] | None:
        """Guardrails by which a release only flags; None while it is not known."""
        known = self._overview.known(release)
        return None if known is None else flagging(known.release.guardrails or ())

    def is_diverted(self, service: str, release: str | None) -> bool:
        """Whether the fallbacks of a service answer for this champion, whatever the reason."""
        return self.diversions.is_diverted(service, release) or self._probes.is_diverted(
            service, release
        )

    async def carry_out(self, entry: ActionEntry) -> str:
        """Do it; what came of it, in words; empty while that is still to come.

        Raises FairleadError when it is not done, and may be if it is tried again.
        """
        outcome, rollout = await self._steps[entry.kind](entry)
        if not outcome:
            return ""
        await asyncio.to_thread(self._tell, entry, outcome, rollout)
        return outcome

    async def _roll_back(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        target = entry.target
        if row.champion == target:
            return f"release {short(target)} serves", ""
        mine = f"ro-{_id(entry)}"
        running = self._overview.running(entry.service)
        going = None if running is None else running.goes_back_to
        if running is not None and going is not None and going.release == target:
            return f"it goes back to release {going.name} by rollout {running.rollout.id}", mine
        known = await asyncio.to_thread(self._store.rollout, mine)
        if known is not None:
            return f"rollout {mine} went back to release {known.name}: {known.state}", mine
        why = f"action by policy {entry.policy}: {entry.reason}"[:WHY_MAX]
        begun = await self._rollouts.go_back(
            entry.service, RollbackRequest(to=target, why=why), mine
        )
        return f"from release {spec.name} back to {short(target)}: rollout {begun}", begun

    async def _pause(self, entry: ActionEntry) -> tuple[str, str]:
        running = self._overview.running(entry.service)
        if running is None or running.rollout.id != entry.target:
            return f"rollout {entry.target} has ended before", entry.target
        if running.rollout.paused:
            return f"rollout {entry.target} is paused", entry.target
        try:
            await self._rollouts.command(
                entry.target, Command.PAUSE.value, by=f"policy {entry.policy}"
            )
        except Conflict as error:  # It is past where a rollout can be held, and stays so.
            return f"not done: {error.message}", entry.target
        return (
            f"rollout {entry.target} waits; `fairlead rollout resume {entry.target}` lets it go on",
            entry.target,
        )

    async def _divert(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        if row.champion is None:
            raise Conflict(f"{entry.service}: there is no champion to divert from")
        if self.is_diverted(entry.service, row.champion):
            return "the fallbacks answer", ""
        found = (await self.surroundings.look())[entry.service].fallbacks
        if not found:
            raise Conflict(
                f"{entry.service}: none of its fallbacks ({', '.join(spec.fallbacks) or 'none'}) "
                "has a replica that is ready"
            )
        why = entry.reason[:WHY_MAX]
        by = f"policy {entry.policy}"
        await self.diversions.begin(
            Diversion(entry.service, row.champion, self._now(), by, why, found)
        )
        back = f"`fairlead monitor undivert {entry.service}`"
        return f"{found[0]} answers in the place of release {spec.name}, until {back}", ""

    async def _tighten(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        found = (await self.surroundings.look())[entry.service].guardrails
        names = [name for name in entry.target.split(",") if name in found]
        if row.champion is None or not names:
            return (
                f"{entry.target}: blocks, or release {spec.name} does not declare it any more",
                "",
            )
        why, by = entry.reason[:WHY_MAX], f"policy {entry.policy}"
        await self.tightenings.begin(
            [Tightening(entry.service, row.champion, name, self._now(), by, why) for name in names]
        )
        which = (
            "guardrail {} of release {} blocks"
            if len(names) == 1
            else ("guardrails {} of release {} block")
        )
        said = which.format(", ".join(names), spec.name)
        one = names[0] if len(names) == 1 else "GUARDRAIL"
        return f"{said}, until `fairlead monitor loosen {entry.service} {one}`", ""

    async def _scale(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        wanted, plan = _replicas(entry.target), spec.plan
        if row.champion is None:
            raise Conflict(f"{entry.service}: no release serves")
        if plan.champion_replicas >= wanted:
            return f"release {spec.name} has {plan.champion_replicas} replicas", ""
        more = msgspec.structs.replace(plan, champion_replicas=wanted)
        changed = msgspec.structs.replace(spec, plan=more)
        check_spec(msgspec.structs.replace(changed, drill=None))
        await self._rollouts.apply(changed)
        return f"release {spec.name} has {wanted} replicas instead of {plan.champion_replicas}", ""

    async def _rerun(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        if row.champion != entry.target:
            return f"release {short(entry.target)} does not serve any more", ""
        if not spec.gates:
            return f"release {spec.name} has no gates any more", ""
        run = await self.gate_runs.begin(f"gr-{_id(entry)}", spec)
        if run.ended_at is not None:
            said = ", ".join(f"{v.gate} {v.outcome.value}" for v in run.verdicts)
            return f"its gates were run again: {said}", ""
        gates = ", ".join(gate.rule.name for gate in spec.gates)
        return f"its gates are run again: {gates}; the verdict will be an event", ""

    async def _add_cases(self, entry: ActionEntry) -> tuple[str, str]:
        row, spec = self._service(entry.service)
        if row.champion != entry.target:
            return f"release {short(entry.target)} does not serve any more", ""
        declared = [one for one in spec.monitoring.actions if one.id == entry.policy]
        policy = declared[0] if declared else ActionPolicy(entry.kind, ())
        name = f"sv-{_id(entry)}"
        said = await self.fresh_cases.carry_out(name, entry, spec, policy)
        waits = self.fresh_cases.is_asked(name) and self._now() - entry.at < VERDICT_S
        return ("" if waits else said), ""

    async def _propose(self, entry: ActionEntry) -> tuple[str, str]:
        row, _ = self._service(entry.service)
        since = await self.surroundings.serves_since(row) if row.champion == entry.target else 0.0
        asked = Proposal(
            id=f"pr-{_id(entry)}",
            at=self._now(),
            service=entry.service,
            release=entry.target,
            alert=entry.alert,
            policy=entry.policy,
            why=entry.reason,
            since=since,
        )
        made = await self.proposals.add(asked, since)
        return f"{made.words} ({made.id}, `fairlead monitor proposals`)", ""

    def _service(self, name: str) -> tuple[ServiceRow, ServiceSpec]:
        for row, spec in self._overview.services():
            if row.name == name:
                return row, spec
        raise NotFound(f"there is no service {name!r}")

    def _tell(self, entry: ActionEntry, outcome: str, rollout: str) -> None:
        """Keep the event, once."""
        mine = _id(entry)
        last = self._store.events(entry.service, limit=TOLD_MAX, newest=True)
        if any(row.kind == KIND and f'"{mine}"'.encode() in row.data for row in last):
            return
        data = {"id": mine, "action": entry.kind.value, "target": entry.target}
        data |= {"policy": entry.policy, "alert": entry.alert}
        message = f"{entry.kind.value}: {outcome} (by policy {entry.policy}: {entry.reason})"
        self._store.add_events(
            [
                EventRow(
                    self._now(), KIND, message[:1_000], service=entry.service, rollout=rollout,
                    data=msgspec.json.encode(data),
                )
            ]
        )  # fmt: skip


def _replicas(target: str) -> int:
    """Raises InvalidInput for what is no number of replicas."""
    if not target.isascii() or not target.isdigit() or not 1 <= int(target[:9]) <= REPLICAS_MAX:
        raise InvalidInput(f"scale: {target[:40]!r} is no number of replicas")
    return int(target)


def _id(entry: ActionEntry) -> str:
    """Names an entry, the same each time that it is carried out."""
    text = msgspec.json.encode((entry.key, entry.kind, entry.target))
    return hashlib.sha256(text).hexdigest()[:8]
