"""Mutated messages through a proxy in front of the gateway, and behind it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from attack import BODY, KEY_LINE, PATH
from gateway_rig import A, Rig, route, snapshot
from gateway_rig import running as worker_running
from mutations import mutated
from parser_rig import Seen

from differential.lanes import Lane, Passed, lanes
from differential.peers import Peer, running
from differential.views import Verdict, View, by_gateway, judge
from fairlead.gateway import limits

LANES = 12
_BATCH = 600
_WAIT_S = 0.4
_SLASHES = re.compile("/+")


class Report(msgspec.Struct):
    """What was found.

    Attributes:
        kinds: Cases by what came of them.
        unsafe: Messages of which one made two requests, or another one, than the other.
    """

    title: str
    cases: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    unsafe: list[str] = msgspec.field(default_factory=list)

    def note(self, verdict: Verdict, wire: bytes, *what: object) -> None:
        """Count a case; an unsafe one is kept as it was."""
        self.cases += 1
        self.kinds[verdict.value] += 1
        if not verdict.is_safe:
            self.unsafe.append(f"{verdict.name}: {wire!r} {what}")


async def in_front(peer: Peer, seed: int, goes_on: Callable[[int], bool]) -> Report:
    """The same bytes to the gateway and to the proxy, and what the proxy passes on to the gateway.

    Args:
        goes_on: Told how many cases were done; whether to do more.
    """
    report = Report(title=f"{peer.name} in front of the gateway, and beside it")
    chance = random.Random(seed)
    began = time.monotonic()

    async def work(lane: Lane) -> None:
        while goes_on(report.cases):
            await _one_in_front(report, lane, mutated(chance))

    with tempfile.TemporaryDirectory() as folder:
        _open_to_all(folder)
        async with lanes(LANES) as made:
            with running(peer, Path(folder), [lane.ports for lane in made]):
                await asyncio.gather(*(work(lane) for lane in made))
    report.seconds = time.monotonic() - began
    return report


async def _one_in_front(report: Report, lane: Lane, wire: bytes) -> None:
    ours = by_gateway(wire, [])
    passed = await lane.send(wire)
    verdict = judge(_merged(ours), _merged(passed.theirs))
    if verdict is Verdict.THEY_REFUSE and not await _ends(lane, wire, passed):
        verdict = Verdict.THEY_WAIT
    report.note(verdict, wire, ours, passed)
    if passed.refused_behind:
        report.kinds["(of these: the gateway refused what the proxy passed on)"] += 1
    if passed.is_hung:
        report.kinds["(of these: the proxy did not end the connection in time)"] += 1
    if passed.unmarked:
        report.unsafe.append(f"unknown to the proxy: {wire!r} {passed}")


def _merged(view: View) -> View:
    """With slashes in a row as one: Apache passes `//x` on as `/x`, as it says that it does."""
    requests = [Seen(path=_SLASHES.sub("/", seen.path), body=seen.body) for seen in view.requests]
    return View(requests=requests, is_over=view.is_over, why=view.why)


async def _ends(lane: Lane, wire: bytes, passed: Passed) -> bool:
    return passed.refused_behind or await lane.refuses(wire)


async def behind(peer: Peer, seed: int, goes_on: Callable[[int], bool]) -> Report:
    """Messages to a whole gateway worker whose only replica is the proxy."""
    report = Report(title=f"{peer.name} behind the gateway")
    chance = random.Random(seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _open_to_all(name)
        (folder / "peer").mkdir()
        _open_to_all(name + "/peer")
        async with lanes(LANES) as made:
            with running(peer, folder / "peer", [lane.ports for lane in made]):
                rig = Rig(folder, "http://127.0.0.1:9")  # There is no control.
                urls = [f"http://127.0.0.1:{lane.ports.front}" for lane in made]
                with _short_waits():
                    async with worker_running(rig, snapshot(route(A, *urls, slots=64))):
                        while goes_on(report.cases):
                            await _batch_behind(report, rig, made, chance)
                rig.socket.close()
    report.seconds = time.monotonic() - began
    return report


async def _batch_behind(report: Report, rig: Rig, made: list[Lane], chance: random.Random) -> None:
    wires = [_for_the_worker(mutated(chance)) for _ in range(_BATCH)]
    for lane in made:
        lane.host.seen = []
    before = _counted(rig)
    await asyncio.gather(*(_send(rig, wire) for wire in wires))
    served = _counted(rig) - before
    seen = [request for lane in made for request in lane.host.seen]
    report.cases += len(wires)
    report.kinds["requests that the gateway sent on"] += served
    report.kinds["requests that arrived behind the proxy"] += len(seen)
    unmarked = [request for lane in made for request in lane.host.unmarked]
    bodies = {request.body for request in seen}
    if len(seen) != served or unmarked or bodies - {BODY}:
        report.unsafe.append(f"{served} sent on, {len(seen)} came, {unmarked}, {bodies}: {wires}")


def _counted(rig: Rig) -> int:
    """Requests that the worker has counted as a service's: each was sent to the proxy once."""
    assert rig.worker is not None
    series = rig.worker.plant.metrics.requests.state().series
    return int(sum(values[0] for _, values in series))


async def _send(rig: Rig, wire: bytes) -> None:
    """Until the gateway ends the connection: it does so when nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        writer.write(wire)
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


@contextlib.contextmanager
def _short_waits() -> Iterator[None]:
    """The gateway gives up soon on what does not come."""
    names = ("FIRST_REQUEST_S", "HEADER_S", "BODY_PART_S", "KEEP_ALIVE_S", "LINGER_S")
    before = {name: getattr(limits, name) for name in names}
    for name in names:
        setattr(limits, name, _WAIT_S)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(limits, name, value)


def _for_the_worker(wire: bytes) -> bytes:
    """The same mistakes around a path, a key and a body that are served."""
    wire = wire.replace(b"/v1/x", PATH).replace(b"host: a\r\n", b"host: a\r\n" + KEY_LINE + b"\r\n")
    wire = wire.replace(b"content-length: 3", b"content-length: %d" % len(BODY))
    return wire.replace(b"\r\n3\r\n", b"\r\n%x\r\n" % len(BODY)).replace(b"abc", BODY)


def _open_to_all(folder: str) -> None:
    """A proxy that was started by root works as another user."""
    Path(folder).chmod(0o755)
