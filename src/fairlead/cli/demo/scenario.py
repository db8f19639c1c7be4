"""The demo's acts: ship A, B, C and D, then kill a champion's replica; always under traffic."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from fairlead.app.processes import die_with_parent
from fairlead.app.state import StatePaths, open_private
from fairlead.cli.api import ControlClient
from fairlead.cli.demo.example import Example
from fairlead.cli.demo.memory import memory_mb
from fairlead.cli.demo.report import KillReport, ReleaseReport, Report, RequestsReport
from fairlead.cli.demo.traffic import Traffic
from fairlead.cli.demo.view import DemoView
from fairlead.cli.shipping import prepare
from fairlead.control.limits.key_views import KeyRequest, NewKey
from fairlead.control.views import RolloutView, StatusView
from fairlead.domain.errors import FairleadError, Unavailable
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.registry import Registry

T = TypeVar("T")
POLL_S = 0.25
UP_TIMEOUT_S = 60.0
ROLLOUT_TIMEOUT_S = 240.0
REPLACED_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


class Scenario:
    """Plays the acts against one installation that it starts and stops itself."""

    def __init__(self, root: Path, example: Example, rate: float, view: DemoView) -> None:
        self._paths = StatePaths(root)
        self._example = example
        self._rate = rate
        self._view = view
        self._peak_mb = 0.0
        self._up: subprocess.Popen[bytes] | None = None
        self._reports: list[ReleaseReport] = []
        self._kill: KillReport | None = None

    def start(self) -> None:
        """Start `fairlead up` on free ports, in a session of its own: we stop it, not Ctrl-C."""
        self._paths.create()
        command = [
            sys.executable, "-m", "fairlead", "up", "--state", str(self._paths.root),
            "--port", "0", "--control-port", "0",
            "--telemetry-days", "0",  # The demo's folder is gone before there is a long term.
        ]  # fmt: skip
        with open_private(self._paths.logs / "up.log", "ab") as log:
            self._up = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def stop(self) -> None:
        """Stop `fairlead up` and wait until nothing of it is left."""
        if self._up is None:
            return
        self._up.send_signal(signal.SIGTERM)
        try:
            self._up.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._up.kill()
            self._up.wait()

    async def play(self) -> Report:
        """All acts in order; raises Unavailable when one cannot go on."""
        begun = time.monotonic()
        watch = asyncio.create_task(self._watch_memory())
        traffic_task: asyncio.Task[None] | None = None
        try:
            control = await self._control()
            poll = asyncio.create_task(self._watch_status(control))
            key = await _call(lambda: control.post(NewKey, "keys", body=KeyRequest("demo")))
            traffic = self._traffic(key.key)
            try:
                for number, name in enumerate(self._example.releases):
                    await self._ship(control, name, traffic)
                    if number == 0:
                        self._view.traffic = traffic
                        traffic_task = asyncio.create_task(traffic.run())
                        self._view.tell(f"customers ask {self._rate:g} questions a second")
                await self._kill_a_replica(control, traffic)
            finally:
                poll.cancel()
                if traffic_task is not None:
                    self._view.act = "waiting for the last answers"
                    traffic_task.cancel()
                    await asyncio.gather(traffic_task, poll, return_exceptions=True)
            totals = traffic.totals
            return Report(
                releases=await self._settled_reports(control),
                requests=RequestsReport(
                    totals.sent, totals.failed, totals.feedback_failed, totals.errors
                ),
                kill=self._kill,
                seconds=round(time.monotonic() - begun, 1),
                peak_memory_mb=round(self._peak_mb, 1),
            )
        finally:
            watch.cancel()

    async def _control(self) -> ControlClient:
        deadline = time.monotonic() + UP_TIMEOUT_S
        while True:
            if self._up is not None and self._up.poll() is not None:
                log = (self._paths.logs / "up.log").read_text()
                raise Unavailable(f"fairlead up ended at once:\n{log[-2000:]}")
            try:
                control = await _call(self._answering_control)
            except FairleadError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                self._view.tell("gateway, control and observer are up")
                return control

    def _answering_control(self) -> ControlClient:
        control = ControlClient.of(self._paths)
        control.get(StatusView, "status")
        return control

    def _traffic(self, key: str) -> Traffic:
        up = self._paths.require_up()
        return Traffic(
            f"{up.gateway_url}/v1", key, self._example.service, self._example.questions, self._rate
        )

    async def _ship(self, control: ControlClient, name: str, traffic: Traffic) -> None:
        self._view.act = f"shipping release {name}"
        manifest = self._example.manifest(name, self._paths.root)
        registry = Registry(self._paths.registry)
        spec = await _call(lambda: prepare(registry, manifest))
        self._view.names[spec.release] = name
        # The demo's traffic is what it is shown with: nothing is refused for that.
        begun = await _call(lambda: control.post(RolloutView, "rollouts", body=spec, anyway=1))
        view = begun
        deadline = time.monotonic() + ROLLOUT_TIMEOUT_S
        while view.outcome == "running":
            if time.monotonic() > deadline:
                raise Unavailable(f"the rollout of release {name} does not end: {view.reason}")
            await asyncio.sleep(POLL_S)
            view = await self._latest(control, begun.id, view)
            self._view.rollout = view
        self._view.ended(view)
        self._reports.append(_release_report(view))

    async def _latest(
        self, control: ControlClient, rollout: str, before: RolloutView
    ) -> RolloutView:
        try:
            return await _call(lambda: control.get(RolloutView, "rollouts", rollout))
        except Unavailable:
            return before

    async def _settled_reports(self, control: ControlClient) -> list[ReleaseReport]:
        """The reports with what each release has served by the end, as its clients counted."""
        served = {} if self._view.traffic is None else self._view.traffic.by_release
        return [
            msgspec.structs.replace(
                report,
                requests_served=served[report.digest].served if report.digest in served else 0,
            )
            for report in self._reports
        ]

    async def _kill_a_replica(self, control: ControlClient, traffic: Traffic) -> None:
        self._view.act = "killing a champion replica"
        status = await _call(lambda: control.get(StatusView, "status"))
        ready = [r for r in status.replicas if r.state is ReplicaState.READY and r.pid]
        if not ready:
            raise Unavailable("no champion replica is ready to be killed")
        victim = ready[0]
        sent, failed, at = traffic.totals.sent, traffic.totals.failed, time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        self._view.tell(f"kill -9 {victim.pid}: replica {victim.id} of the champion", style="red")
        while not _is_replaced(victim, status):
            if time.monotonic() - at > REPLACED_TIMEOUT_S:
                raise Unavailable(f"replica {victim.id} was not replaced")
            await asyncio.sleep(POLL_S / 2)
            status = await _call(lambda: control.get(StatusView, "status"))
        replaced_s = time.monotonic() - at
        self._kill = KillReport(
            replica=victim.id,
            requests_meanwhile=traffic.totals.sent - sent,
            failed_meanwhile=traffic.totals.failed - failed,
            replaced_s=round(replaced_s, 2),
        )
        self._view.tell(
            f"replaced after {replaced_s:.1f} s; {traffic.totals.sent - sent} requests meanwhile, "
            f"{traffic.totals.failed - failed} lost",
            style="green",
        )
        await asyncio.sleep(1.0)

    async def _watch_status(self, control: ControlClient) -> None:
        while True:
            try:
                self._view.status = await _call(lambda: control.get(StatusView, "status"))
            except Unavailable:
                self._view.status = None
            await asyncio.sleep(POLL_S)

    async def _watch_memory(self) -> None:
        while True:
            self._view.memory_mb = await _call(lambda: memory_mb(os.getpid()))
            self._peak_mb = max(self._peak_mb, self._view.memory_mb)
            await asyncio.sleep(0.5)


def _is_replaced(victim: ReplicaStatus, status: StatusView) -> bool:
    ready = [
        r
        for r in status.replicas
        if r.engine_digest == victim.engine_digest
        and r.state is ReplicaState.READY
        and r.pid != victim.pid
    ]
    return len(ready) >= 2


def _release_report(view: RolloutView) -> ReleaseReport:
    verdict = view.verdict
    return ReleaseReport(
        name=view.name,
        digest=view.release,
        outcome=view.outcome,
        requests_served=view.served or 0,
        reason=view.reason,
        gates=[
            {"gate": g.gate, "outcome": g.outcome.value, "reason": g.reason, "numbers": g.numbers}
            for g in view.gate_verdicts
        ],
        verdict=None
        if verdict is None
        else {
            "outcome": verdict.outcome.value,
            "reason": verdict.reason,
            "numbers": verdict.numbers,
        },
    )


async def _call(function: Callable[[], T]) -> T:
    """Run a blocking call in a thread."""
    return await asyncio.to_thread(function)
