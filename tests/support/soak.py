"""A soak: an installation under steady load for long, while its parts are killed and restarted.

The replicas are real llama.cpp servers of a model whose answers are known beforehand and can be
gone on with after any character, so a stream that a kill cuts has to end as if nothing had
happened. The load is a share of what the machine could do at the start.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.cli.shipping import prepare
from fairlead.manifest import load_manifest
from fairlead.registry import Registry
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter, RequestRow
from support.havoc import Havoc
from support.installation import Installation
from support.load import Reply
from support.models import reciter
from support.processes import ROLES, SUPERVISOR, Held
from support.soak_clients import SERVICE, Clients
from support.trend import Trend, trend

MANIFEST = f"""
service: {SERVICE}
release:
  name: s
  model: reciter.gguf
  engine: {{kind: llama.cpp, settings: {{context: 4096, slots: 4, threads: 1}}}}
  sampling: {{temperature: 0}}
replicas: {{champion: 2, canary: 1}}
limits: {{queue: 1000, queue_timeout_seconds: 60, request_timeout_seconds: 90}}
"""
LAYERS = 8
"""So many that a stream takes long enough to be cut."""
RATE_FIRST = 5.0
GROWS_AT_LEAST = 1.05
RATES_MAX = 24
WARM_UP_SHARE, WARM_UP_S_MAX = 0.25, 300.0
FREE_KB, FREE_KB_WARMING = 2048.0, 10240.0
"""Growth that is let pass; the second one where the whole soak is hardly more than a warm-up."""
FREE_FDS, FREE_FDS_WARMING = 16.0, 64.0
"""Likewise; each open request takes two."""
FREE_PROCESSES = 2.0
"""Old workers go on until their clients have left."""
SHOWN_MAX = 10
PAGE = 5000


@dataclass(frozen=True)
class Plan:
    """What a soak does.

    Attributes:
        kill_every_s, restart_every_s: 0 for never.
        load: Share of saturation.
        streamed: Share of streams.
        rate_step: Each rate that is tried for saturation is so many times the one before.
        rate_s: How long each is tried.
    """

    seconds: float
    kill_every_s: float = 20.0
    restart_every_s: float = 120.0
    load: float = 0.5
    streamed: float = 0.5
    rate_step: float = 1.35
    rate_s: float = 10.0
    sample_every_s: float = 5.0


class Answer(NamedTuple):
    """One right answer; `at` is when it ended, in seconds after the begin; others in ms."""

    at: float
    stream: bool
    duration: float
    ttft: float
    gap_max: float


@dataclass(frozen=True)
class Failure:
    """One answer that was wrong."""

    at: float
    took: float
    stream: bool
    what: str
    request_id: str
    text: str

    def told(self, attempts: int) -> str:
        """In one line."""
        kind = "stream" if self.stream else "plain"
        shown = f"failed after {self.at:.1f} s: {kind} {self.request_id}, {self.what}"
        tried = f"{attempts} attempts in {self.took:.1f} s"
        return f"{shown}; {tried}; ends {self.text[-200:]!r}"


@dataclass
class Soak:
    """What happened.

    Attributes:
        rates: The rates that were tried for saturation, and the answers a second to each.
        attempts: Of the failed requests, by id, as their records say.
        streams_again, plain_again: Requests that took more than one replica.
        continued: Streams that broke after the client had a part, and were gone on with.
    """

    plan: Plan
    rates: list[tuple[float, float]] = field(default_factory=list)
    rate: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    held_back: int = 0
    kills: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    samples: list[tuple[float, list[Held]]] = field(default_factory=list)
    unrecorded: int = 0
    recorded_twice: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    streams_again: int = 0
    plain_again: int = 0
    continued: int = 0

    @property
    def saturation(self) -> float:
        """The most answers a second."""
        return max((answered for _, answered in self.rates), default=0.0)

    @property
    def warm_up_s(self) -> float:
        """What comes before is not looked at for growth."""
        return min(WARM_UP_S_MAX, WARM_UP_SHARE * self.plan.seconds)

    def roles(self) -> list[str]:
        """The roles that were seen, in a fixed order."""
        seen = {held.role for _, sample in self.samples for held in sample}
        return [role for role in (SUPERVISOR, *ROLES) if role in seen]

    def series(self, role: str, measure: str) -> list[tuple[float, float]]:
        """A figure over time.

        Args:
            measure: `rss_kb` or `fds` of the role's largest process, `pss_kb` of a process in the
                mean (while the gateway is restarted there are more of them), or `processes`.
        """
        found = []
        for at, sample in self.samples:
            own = [held for held in sample if held.role == role]
            if own and measure == "processes":
                found.append((at, float(len(own))))
            elif own and measure == "pss_kb":
                found.append((at, statistics.fmean(held.pss_kb for held in own)))
            elif own:
                found.append((at, float(max(getattr(held, measure) for held in own))))
        return found

    def trend(self, role: str, measure: str) -> Trend | None:
        """How a figure grows after the warm-up."""
        late = [(at, value) for at, value in self.series(role, measure) if at >= self.warm_up_s]
        return trend([at for at, _ in late], [value for _, value in late])

    def problems(self) -> list[str]:
        """All that is not as it has to be; empty when the soak has passed."""
        found = [
            failure.told(self.attempts.get(failure.request_id, 0))
            for failure in self.failed[:SHOWN_MAX]
        ]
        if len(self.failed) > SHOWN_MAX:
            found.append(f"and {len(self.failed) - SHOWN_MAX} more have failed")
        found += self.troubles
        if self.unrecorded:
            found.append(f"{self.unrecorded} answers have no record")
        if self.recorded_twice:
            found.append(f"{self.recorded_twice} requests have more than one record")
        if bool(self.plan.kill_every_s) > bool(self.kills):
            found.append("no replica was killed: nothing was tried")
        if bool(self.plan.restart_every_s) > bool(self.restarts):
            found.append("the gateway was not restarted: nothing was tried")
        for role in self.roles():
            found += self._growth(role)
        return found

    def _growth(self, role: str) -> Iterator[str]:
        is_long = self.warm_up_s >= WARM_UP_S_MAX
        free_kb, free_fds = FREE_KB, FREE_FDS
        if not is_long:
            free_kb, free_fds = FREE_KB_WARMING, FREE_FDS_WARMING
        for measure, free, name in (
            ("rss_kb", free_kb, "kB of memory"),
            ("pss_kb", free_kb, "kB of memory of its own"),
            ("fds", free_fds, "descriptors"),
            ("processes", FREE_PROCESSES, "processes"),
        ):
            seen = self.trend(role, measure)
            if seen is not None and seen.grows(free):
                yield (
                    f"{role}: {seen.level:.0f} {name}, and {seen.per_hour:+.0f} an hour "
                    f"({seen.low:+.0f} to {seen.high:+.0f})"
                )


def lives(samples: list[tuple[float, list[Held]]], role: str, skip_s: float) -> list[Trend]:
    """How memory grows within the life of each process of a role, after its first seconds."""
    held: dict[int, list[tuple[float, float]]] = {}
    for at, sample in samples:
        for one in sample:
            if one.role == role:
                held.setdefault(one.pid, []).append((at, float(one.rss_kb)))
    found = []
    for points in held.values():
        late = [(at, kb) for at, kb in points if at >= points[0][0] + skip_s]
        seen = trend([at for at, _ in late], [kb for _, kb in late])
        found += [seen] if seen is not None else []
    return found


async def run_soak(installation: Installation, questions: list[str], plan: Plan) -> Soak:
    """Ship the model, find out what the machine can do, and soak it."""
    soak = Soak(plan)
    await asyncio.to_thread(_ship, installation)
    begin = time.time()
    ids: list[str] = []

    def note(reply: Reply, fault: str) -> None:
        at = reply.ended - begin
        if reply.request_id:
            ids.append(reply.request_id)
        if fault:
            took = reply.ended - reply.began
            what = (at, took, reply.stream, fault, reply.request_id, reply.text)
            soak.failed.append(Failure(*what))
        else:
            times = (reply.ended - reply.began, reply.first - reply.began, reply.gap_s_max)
            soak.answers.append(Answer(at, reply.stream, *(1000 * each for each in times)))

    clients = Clients(installation.gateway, installation.key, questions, plan.streamed, note)
    await _find_saturation(soak, clients)
    soak.rate = max(1.0, plan.load * soak.saturation)
    soak.answers.clear()
    clients.held_back = 0
    begin = time.time()
    havoc = Havoc(installation, plan.kill_every_s, plan.restart_every_s, plan.sample_every_s)
    wrecking = asyncio.create_task(havoc.run())
    try:
        await clients.send(soak.rate, plan.seconds)
        await clients.drain()
    finally:
        wrecking.cancel()
        ends = await asyncio.gather(wrecking, return_exceptions=True)
        clients.close()
    soak.held_back = clients.held_back
    soak.kills, soak.restarts, soak.samples = havoc.kills, havoc.restarts, havoc.samples
    soak.troubles += havoc.troubles
    soak.troubles += [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]
    soak.troubles += unplanned_ends(installation)
    soak.continued = await asyncio.to_thread(_continued, installation)
    await asyncio.to_thread(_compare, soak, installation, ids)
    return soak


def _ship(installation: Installation) -> None:
    folder = installation.paths.root.parent / "service"
    folder.mkdir()
    reciter(folder / "reciter.gguf", layers=LAYERS)
    (folder / "fairlead.yaml").write_text(MANIFEST)
    spec = prepare(Registry(installation.paths.registry), load_manifest(folder / "fairlead.yaml"))
    ended = installation.finish(installation.ship(spec).id)
    assert ended.outcome == "promoted", ended


async def _find_saturation(soak: Soak, clients: Clients) -> None:
    """Try higher and higher rates until more requests bring no more answers."""
    rate, best = RATE_FIRST, 0.0
    for _ in range(RATES_MAX):
        answered = await clients.send(rate, soak.plan.rate_s)
        await clients.drain()
        soak.rates.append((rate, answered))
        if answered < best * GROWS_AT_LEAST:
            return
        rate, best = rate * soak.plan.rate_step, answered


def unplanned_ends(installation: Installation) -> list[str]:
    """What the supervisor said of parts that ended by themselves."""
    said = (installation.paths.logs / "up.log").read_text(errors="replace").splitlines()
    return [
        f"ended by itself: {line}"
        for line in said
        if "starting it again" in line or "an old process" in line
    ]


def _continued(installation: Installation) -> int:
    """Streams that were gone on with, as the gateway's metrics say."""
    host, port = installation.gateway
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    name = "fairlead_gateway_streams_continued_total{"
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))


def _compare(soak: Soak, installation: Installation, ids: list[str]) -> None:
    """Each answer has one record."""
    deadline = time.monotonic() + 60
    while True:
        rows = list(_records(installation))
        counted = Counter(row.id for row in rows)
        missing = sum(1 for each in ids if each not in counted)
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    soak.unrecorded = missing
    soak.recorded_twice = sum(1 for count in counted.values() if count > 1)
    failed = {failure.request_id for failure in soak.failed}
    soak.attempts = {row.id: row.attempts for row in rows if row.id in failed}
    again = [row for row in rows if row.attempts > 1]
    soak.streams_again = sum(row.stream for row in again)
    soak.plain_again = len(again) - soak.streams_again


def _records(installation: Installation) -> Iterator[RequestRow]:
    store = open_store(installation.paths.store_url)
    try:
        before: tuple[float, str] | None = None
        while page := store.records(RecordFilter(), before=before, limit=PAGE):
            yield from page
            before = (page[-1].started_at, page[-1].id)
    finally:
        store.close()


def median_slope_mb(trends: list[Trend]) -> tuple[float, float, float] | None:
    """The median growth in MB/h of several lives, with its 95 % interval by ranks."""
    slopes = sorted(each.per_hour / 1024 for each in trends)
    if len(slopes) < 8:
        return None
    half = 0.98 * len(slopes) ** 0.5
    low = max(0, round(len(slopes) / 2 - half))
    high = min(len(slopes) - 1, round(len(slopes) / 2 + half))
    return statistics.median(slopes), slopes[low], slopes[high]
