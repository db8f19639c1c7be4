"""A world for control: simulated time, replicas, gateway workers and users; a real store, registry.

Each turn takes a second: replicas come up, users ask, workers acknowledge, control turns once. A
control that is thrown away leaves the store, the replicas and the workers as they are.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.control.parts import Ground
from fairlead.control.plane import ControlPlane
from fairlead.control.shipping.spec import GateSpec, ServiceSpec
from fairlead.control.shipping.stored import read_rollout, read_spec
from fairlead.control.views import RolloutView
from fairlead.control.world.hub import SnapshotHub
from fairlead.domain.replica import ReplicaState, ReplicaStatus, Wanted
from fairlead.evaluation.cases import Case, Suite, make_case
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.scorers import Exact
from fairlead.gateway.replicas.routing import assign
from fairlead.gateway.replicas.strata import stratify
from fairlead.gateway.state.harm import HarmBudgets
from fairlead.registry import BuildInput, Registry
from fairlead.rollout.invariants import validate
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.store.interface import Store
from fairlead.store.rows import FeedbackRow, RequestRow, SpoolCursor
from fairlead.wire.snapshot import ServiceRoute, Snapshot, SyncRequest
from support.waiting import WITHIN_S

S = ReplicaState
NOWHERE = "http://127.0.0.1:9"
SPOOL = "the-workers"
PLAN = Plan(
    steps=(Step(0.3, 15, 2.0), Step(0.6, 15, 2.0)),
    settle_s=2.0,
    feedback=FeedbackRule("success", required=True),
    margin=0.2,
    deadline_s=600.0,
    expected_failure_rate=0.2,
)
DIRECT = msgspec.structs.replace(PLAN, steps=())


def build_releases(root: Path, models: Path) -> dict[str, str]:
    """Releases a to d of the example in a registry at `root`: digests by name."""
    registry = Registry(root)
    from fairlead.domain.release import Engine, Prompt

    digests = {}
    for number, name in enumerate("abcd"):
        given = BuildInput(
            model=str(models / f"{name}.gguf"),
            engine=Engine("llama.cpp", {"slots": 2}),
            prompt=Prompt(user=f"{name}: {{input}}"),
            sampling={"temperature": number / 10},
            name=name,
            service="bank",
        )
        digests[name] = registry.build(given, now=1.0).digest
    return digests


class SimulatedTarget:
    """A target whose replicas become ready when they are told, and die when they are told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replicas: dict[str, ReplicaStatus] = {}
        self.base_urls: Callable[[str], str] = lambda _engine: NOWHERE
        self.held: set[str] = set()
        """Engine digests whose replicas do not become ready."""
        self.forgets_at_adoption = False
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.wanted: list[Wanted] = []
        self.closed_with: list[bool] = []

    async def adopt(self) -> None:
        if self.forgets_at_adoption:
            for key in self._replicas:
                self.set_state(key, S.STARTING)

    async def reconcile(self, wanted: Sequence[Wanted], may_stop: Callable[[str], bool]) -> None:
        self.wanted = list(wanted)
        counts = {w.engine_digest: w.count for w in wanted}
        for engine in sorted({*counts, *(r.engine_digest for r in self._replicas.values())}):
            kept = [r.id for r in self._of(engine) if r.state is not S.SURPLUS]
            for key in kept[counts.get(engine, 0) :]:
                self.set_state(key, S.SURPLUS)
            for _ in range(counts.get(engine, 0) - len(kept)):
                self._start(engine)
        for replica in list(self._replicas.values()):
            if replica.state is S.SURPLUS and may_stop(replica.id):
                self._world.assert_unused(replica.id)
                self.stopped.append(replica.id)
                del self._replicas[replica.id]

    def replicas(self) -> list[ReplicaStatus]:
        return [self._replicas[key] for key in sorted(self._replicas)]

    async def close(self, *, stop: bool) -> None:
        self.closed_with.append(stop)

    def step(self) -> None:
        """What starts is ready, unless it is held."""
        for replica in self.replicas():
            if replica.state is S.STARTING and replica.engine_digest not in self.held:
                self.set_state(replica.id, S.READY)

    def set_state(self, key: str, state: ReplicaState, detail: str = "") -> None:
        self._replicas[key] = msgspec.structs.replace(
            self._replicas[key], state=state, since=self._world.now, detail=detail
        )

    def lose(self, key: str) -> None:
        """The replica is gone, as if it had never been."""
        del self._replicas[key]

    def _of(self, engine: str) -> list[ReplicaStatus]:
        return [r for r in self.replicas() if r.engine_digest == engine]

    def _start(self, engine: str) -> None:
        key = f"{len(self.started):04}-{engine[7:13]}"
        self.started.append(key)
        self._replicas[key] = ReplicaStatus(
            key, engine, S.STARTING, self.base_urls(engine), 1, 2, self._world.now
        )


class SimulatedWorker:
    """A gateway worker: runs on the newest snapshot it was given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.boot = f"boot-{number}"
        self.pid = 100 + number
        self.snapshot: Snapshot | None = None
        self.open: set[str] = set()
        self.harms = HarmBudgets()
        self.is_hung = False

    async def sync(self, hub: SnapshotHub) -> None:
        """Ask for a newer one, and acknowledge it."""
        for _ in range(0 if self.is_hung else 2):
            version = 0 if self.snapshot is None else self.snapshot.version
            asked = SyncRequest(
                self.number, self.boot, self.pid, version, tuple(self.open), wait_s=0.0
            )
            newer = await hub.sync(asked)
            if newer is not None:
                assert newer.version > version, "a snapshot went back"
                self.snapshot = newer

    def endpoints(self) -> set[str]:
        """Replicas to which it may send."""
        if self.snapshot is None:
            return set()
        return {
            endpoint.replica
            for service in self.snapshot.services.values()
            for release in service.releases.values()
            for endpoint in release.endpoints
        }


class RecordingHub(SnapshotHub):
    """A hub that also notes in the world what is published."""

    def __init__(self, world: World) -> None:
        super().__init__(
            clock=lambda: world.now,
            is_alive=lambda pid: pid not in world.dead_pids,
            expected_workers=len(world.workers),
        )
        self._world = world

    def publish(self, snapshot: Snapshot) -> None:
        self._world.published.append(snapshot)
        super().publish(snapshot)


class ControlByHand(ControlPlane):
    """A control plane that turns only when the test says so."""

    async def _run(self) -> None:
        await asyncio.Event().wait()


class World:
    """Everything around control, and control itself."""

    def __init__(self, store: Store, registry: Registry, digests: dict[str, str]) -> None:
        self.store = store
        self.control_s_store = store
        """What control uses; a test may put one in between."""
        self.registry = registry
        self.digests = digests
        self.now = 1_000.0
        self.target = SimulatedTarget(self)
        self.workers = [SimulatedWorker(0), SimulatedWorker(1)]
        self.dead_pids: set[int] = set()
        self.published: list[Snapshot] = []
        self.users_per_turn = 0
        self.fails = {"a": 0.2, "b": 0.0, "c": 0.75, "d": 1.0, "drill": 1.0}
        self.slower: dict[str, float] = {}
        """How many times as long a release takes, where it is not once."""
        self.hard = 1.0
        """How many times as often every second user's request fails, whichever release answers."""
        self.dice = random.Random(4)
        self.served: dict[str, int] = {}
        self.copied: dict[str, int] = {}
        numbers = itertools.count(1)
        self.new_id: Callable[[str], str] = lambda prefix: f"{prefix}-{next(numbers):08x}"
        """Who is assigned to a canary follows from a rollout's id: no verdict is left to luck."""
        self._requests = 0
        self._validated: dict[str, int] = {}
        self.plane: ControlByHand = None  # type: ignore[assignment]

    # Control's lives

    async def start(self) -> None:
        """Start control on what there is."""
        ground = Ground(
            store=self.control_s_store,
            registry=self.registry,
            target=self.target,
            hub=RecordingHub(self),
            gateway_url="http://127.0.0.1:7600",
            now=lambda: self.now,
            monotonic=lambda: self.now,
            new_id=lambda prefix: self.new_id(prefix),
        )
        self.plane = ControlByHand(ground)
        await self.plane.start()

    async def stop(self) -> None:
        """Control ends; replicas and workers go on."""
        await self.plane.close(stop_replicas=False)

    async def restart(self) -> None:
        """Another control takes over."""
        await self.stop()
        await self.start()

    # Time

    async def turn(self, *, seconds: float = 1.0) -> None:
        """One turn of the world and of control."""
        self.now += seconds
        self.target.step()
        self._traffic()
        await self.acknowledge()
        await self.plane.tick()
        await self.acknowledge()
        self.check()

    async def acknowledge(self) -> None:
        """The workers ask control for news."""
        for worker in self.workers:
            await worker.sync(self.plane.hub)

    async def until(
        self, done: Callable[[], bool], turns: int = 150, *, seconds: float = 1.0
    ) -> None:
        """Turn until it is so; turns in which an evaluation goes on beside them do not count."""
        left, give_up_at = turns, time.monotonic() + 2 * WITHIN_S
        while not done():
            if not left or time.monotonic() > give_up_at:
                states = [row.state for row in self.rollouts()]
                raise AssertionError(f"not after {turns} turns: {states}")
            await self.turn(seconds=seconds)
            if self.plane._evaluations._runs:
                await asyncio.sleep(0.002)
            else:
                left -= 1

    async def until_in_real_time(self, done: Callable[[], object], *, seconds: float = 1.0) -> None:
        """Turn until it is so, however often: what goes on beside the turns needs real time."""
        give_up_at = time.monotonic() + WITHIN_S
        while not done():
            assert time.monotonic() < give_up_at, [row.state for row in self.rollouts()]
            await self.turn(seconds=seconds)
            await asyncio.sleep(0.005)

    # Rollouts

    def spec(self, release: str, **changes: Any) -> ServiceSpec:
        """How to ship a release of the service `bank`."""
        plan = changes.pop("plan", PLAN)
        made = ServiceSpec("bank", self.digests[release], release, plan)
        return msgspec.structs.replace(made, **changes)

    async def ship(self, release: str, **changes: Any) -> str:
        """Begin a rollout; its id."""
        # What a test ships need not fit into what traffic there happens to be.
        return (await self.plane.ship(self.spec(release, **changes), anyway=True)).id

    async def finish(self, rollout: str, turns: int = 150, *, seconds: float = 1.0) -> RolloutView:
        """Turn until the rollout has ended."""
        await self.until(lambda: not self.row(rollout).active, turns, seconds=seconds)
        return await self.plane.reports.rollout(rollout)

    async def first_champion(self, release: str = "a", **changes: Any) -> None:
        """Make a release the champion, without gates or canary."""
        view = await self.finish(await self.ship(release, **{"plan": DIRECT, **changes}))
        assert view.outcome == "promoted"
        await self.turn()

    def row(self, rollout: str) -> Any:
        found = self.store.rollout(rollout)
        assert found is not None
        return found

    def rollouts(self) -> list[Any]:
        return self.store.rollouts(limit=100)

    def champion(self, service: str = "bank") -> str | None:
        row = self.store.service(service)
        return None if row is None else row.champion

    def route(self, service: str = "bank") -> ServiceRoute:
        """The service as the newest snapshot has it."""
        assert self.plane.hub.snapshot is not None
        return self.plane.hub.snapshot.services[service]

    def replicas_of(self, release: str) -> list[ReplicaStatus]:
        engine = self.registry.get(self.digests[release]).release.engine_digest
        return [r for r in self.target.replicas() if r.engine_digest == engine]

    def engine_of(self, release: str) -> str:
        return self.registry.get(self.digests[release]).release.engine_digest

    def gate(self, cases: Sequence[Case], **rule: Any) -> GateSpec:
        """A gate on these cases; an answer is right when it is the expected text."""
        suite = self.registry.put_blob(Suite(tuple(cases)).to_bytes(), "application/json")
        return GateSpec(GateRule("quality", **rule), Exact(), suite, concurrency=4)

    # What is always so

    def check(self) -> None:
        """Invariants of the whole."""
        versions = [snapshot.version for snapshot in self.published]
        assert versions == sorted(set(versions)), "versions only grow"
        for row in self.store.rollouts(limit=100):
            rollout = read_rollout(row).document.rollout
            if self._validated.get(row.id) != row.version and row.release != rollout.champion:
                validate(rollout)
                self._validated[row.id] = row.version
        for service in self.store.services():
            if service.champion is not None:
                spec = read_spec(service)
                assert spec.release == service.champion, "the champion's spec is the service's"

    def assert_unused(self, replica: str) -> None:
        """Nobody can send to this replica, or waits for it."""
        for worker in self.workers:
            assert replica not in worker.endpoints(), f"{worker.boot} may still send to {replica}"
            assert replica not in worker.open, f"{worker.boot} waits for {replica}"

    # Traffic

    def _traffic(self) -> None:
        """Users ask both workers; what came of it is in the store at once."""
        if not self.users_per_turn:
            return
        names = {digest: name for name, digest in self.digests.items()}
        records, feedback = [], []
        for _ in range(self.users_per_turn):
            worker = self.dice.choice(self.workers)
            self._requests += 1
            if worker.snapshot is None:
                continue
            for service in worker.snapshot.services.values():
                usable = service.canary is not None and bool(
                    service.releases[service.canary].endpoints
                )
                harm = None
                if service.harm is not None:
                    harm = worker.harms.of(service.rollout or "", service.harm)
                    usable = usable and harm.left > 0
                drilled = (d for d, r in service.releases.items() if r.fault is not None)
                names |= dict.fromkeys(drilled, "drill")
                unit = f"user-{self._requests}"
                to = assign(service, unit, canary_is_usable=usable)
                if to is None or not service.releases[to.release].endpoints:
                    continue
                if harm is not None and to.arm == "canary":
                    harm.left -= 1
                request = f"{service.name}-{self._requests:06}"
                at = self.now - self.dice.random()
                self.served[names[to.release]] = self.served.get(names[to.release], 0) + 1
                is_hard = self._requests % 2 == 0
                risk = self.hard if is_hard else 1.0
                good = self.dice.random() >= risk * self.fails[names[to.release]]
                records.append(
                    RequestRow(
                        request, service.name, to.release, to.arm, "", "key", unit, to.rho,
                        to.rollout, to.phase, "/v1/chat/completions", False, 200, "", at,
                        10.0, -1.0, self._took_ms(names[to.release], at), 5, 7, 1,
                        cost_usd=0.001 + at % 0.0005, refused=int(at % 1.0 < 0.1),
                        stratum=self._stratum(service, is_hard),
                    )
                )  # fmt: skip
                feedback.append(FeedbackRow(f"f{request}", request, "key", "success", good, at))
                records += self._copies(service, records[-1], names)
        cursor = SpoolCursor(offset=self._requests, complete_until=self.now)
        self.ingest(records, feedback, cursor)

    def _stratum(self, service: ServiceRoute, is_hard: bool) -> int:
        """As a gateway tells it; what is hard is long."""
        if service.strata is None:
            return -1
        return stratify(service.strata, ())("", "", b"x" * (8_000 if is_hard else 80), None)

    def _took_ms(self, name: str, at: float) -> float:
        """It differs from request to request, and does not touch the dice of what they come to."""
        return (20.0 + 10.0 * (at * 1_000.0 % 1.0)) * self.slower.get(name, 1.0)

    def ingest(
        self, records: list[RequestRow], feedback: list[FeedbackRow], cursor: SpoolCursor
    ) -> None:
        """What the observer does with what the workers have recorded."""
        self.store.ingest(SPOOL, records, feedback, cursor)

    def _copies(
        self, service: ServiceRoute, live: RequestRow, names: dict[str, str]
    ) -> list[RequestRow]:
        """The copy of a request, which the shadow's server fails as often as users complain."""
        shadow = service.shadow
        if shadow is None or not service.releases[shadow.release].endpoints:
            return []
        if self.dice.random() >= shadow.share:
            return []
        assert shadow.timeout_s > 0
        name = names[shadow.release]
        self.copied[name] = self.copied.get(name, 0) + 1
        fails = self.dice.random() < self.fails[name]
        return [
            msgspec.structs.replace(
                live, id=f"{live.id}.shadow", release=shadow.release, arm="shadow", rho=0.0,
                status=502 if fails else 200, error="upstream_error" if fails else "",
            )
        ]  # fmt: skip


def questions(count: int) -> list[Case]:
    """Cases whose right answer is in the question."""
    return [make_case(f"say {number}", f"{number}") for number in range(count)]


async def ended(world: World, rollout: str, turns: int = 250, kill_every: int = 0) -> RolloutView:
    """Turn until it has ended; runs in the background get real time to answer."""
    for turn in range(turns):
        if not world.row(rollout).active:
            break
        await world.turn()
        if world.plane._evaluations._runs:
            await asyncio.sleep(0.01)
        tasks = list(world.plane._rollouts._facts._suites._tasks.values())
        if kill_every and turn % kill_every == 0:
            await world.restart()
        elif tasks:
            await asyncio.wait(tasks)
    return await world.plane.reports.rollout(rollout)
