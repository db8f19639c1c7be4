"""What each feature costs a plain request: two workers that differ in it alone, turn by turn.

A pair of workers lives in one process. They are asked alternately, some hundred requests at a time,
so that what else the machine does meets both alike; a pair of turns gives one difference. Both get
the same requests, which are of many kinds (see `mix`). Between them and their clients and replicas
are no sockets (see `whole`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.gateway.fairlead_proxy import snapshot
from benchmarks.gateway.mix import MIX
from benchmarks.gateway.report import table
from benchmarks.gateway.traffic import SERVICE
from benchmarks.gateway.whole import (
    BODY,
    REPLICA_PORT,
    Crowd,
    SocketFreeLoop,
    request_of,
    worker_on,
)

from fairlead.domain.capture import Capture
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.quota import Price, Quota
from fairlead.domain.release import Prompt
from fairlead.domain.strata import Strata
from fairlead.gateway.worker import Worker
from fairlead.wire.snapshot import Limits, ReleaseRoute, ServiceRoute, Shadow, Snapshot

PAIRS = 40
CLIENTS = 16
REQUESTS = len(MIX) // CLIENTS
"""Each turn asks all of the mix once."""
_MANY = 1_000_000_000
"""A limit that is counted, but never reached."""
_SLOTS = 256

Change = Callable[[Snapshot], Snapshot]


def _same(served: Snapshot) -> Snapshot:
    return served


class Feature(msgspec.Struct, frozen=True):
    """One feature.

    Attributes:
        without, with_it: The snapshots of the two workers, made from the same one.
        has_records: Whether the worker without it writes records, and the one with it.
        trace_share: Of the worker with it; the other one traces nothing.
        strip: Takes it out of the worker without it, where no setting does.
        more: Header lines of the clients of the worker with it.
    """

    name: str
    without: Change = _same
    with_it: Change = _same
    has_records: tuple[bool, bool] = (True, True)
    trace_share: float | None = None
    strip: Callable[[Worker], None] | None = None
    more: bytes = b""


def rows(folder: Path) -> list[list[str]]:
    """Each feature: microseconds per request, the median and the middle half of all pairs."""
    found = []
    for number, feature in enumerate(features()):
        gc.collect()
        with asyncio.Runner(loop_factory=SocketFreeLoop) as runner:
            differences = runner.run(_compare(folder / str(number), feature))
        low, middle, high = statistics.quantiles(differences, n=4)
        found.append([feature.name, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    return found


def markdown(folder: Path) -> str:
    """The table."""
    return table(["feature", "µs per request", "middle half"], rows(folder))


def features() -> list[Feature]:
    """Those that every request of the benchmark has first, then those that it lacks."""
    return [*_usual(), *_optional()]


def _usual() -> list[Feature]:
    return [
        Feature("API keys (against a gateway that asks for none)", without=_open),
        Feature("a limit on requests, and its headers", without=_unlimited),
        Feature("a canary with a fifth of the users", without=_no_canary),
        Feature("records in the spool", has_records=(False, True)),
        Feature("metrics", strip=_uncounted),
        Feature("the release's header", strip=_unnamed),
    ]


def _optional() -> list[Feature]:
    return [
        Feature("a session in the head", more=b"X-Session-Id: s-0001\r\n"),
        Feature("a limit on tokens beside it", with_it=_token_limit),
        Feature("prices", with_it=_on_releases(price=Price(1.0, 2.0))),
        Feature("a system prompt of the release", with_it=_on_releases(prompt=Prompt("Be brief."))),
        Feature("strata by size", with_it=_on_service(strata=Strata(by="size"))),
        Feature("tracing, of no request", trace_share=0.0),
        Feature("tracing, of every request", trace_share=1.0),
        Feature("refusals looked for", with_it=_on_service(facts=("refusal",))),
        Feature(
            "a copy of a tenth of them to a shadow release (takes the whole way)",
            without=_no_canary,
            with_it=_shadowed,
        ),
        Feature(
            "a tenth of the units' prompts and answers kept",
            with_it=_on_service(capture=Capture(0.1, per_minute=_MANY)),
        ),
        Feature("two replicas, by load", with_it=_two_replicas),
        Feature(
            "two replicas, by prompt",
            without=_two_replicas,
            with_it=lambda served: _on_service(balance="prefix")(_two_replicas(served)),
        ),
        Feature(
            "the whole way instead of the short one (an attempt's timeout)",
            with_it=_on_service(limits=Limits(queue=4096, attempt_timeout_s=60.0)),
        ),
        Feature("a guardrail on prompts (takes the whole way)", with_it=_guarded("prompt")),
        Feature("a guardrail on answers (takes the whole way)", with_it=_guarded("answer")),
    ]


async def _compare(folder: Path, feature: Feature) -> list[float]:
    """Microseconds that a request costs more with it, of each pair of turns."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SocketFreeLoop)
    async with _pair(folder, feature) as (other, worker):
        usual = [request_of(body) for body in MIX]
        given = [request_of(body, feature.more) for body in MIX]
        pair = Crowd(other, CLIENTS, usual, BODY), Crowd(worker, CLIENTS, given, BODY)
        found = []
        for turn in range(PAIRS + 2):
            took = [0.0, 0.0]
            for which in (turn % 2, 1 - turn % 2):
                took[which] = await pair[which].ask(REQUESTS)
            found.append((took[1] - took[0]) / (CLIENTS * REQUESTS) * 1e6)
        for crowd in pair:
            crowd.leave()
    return found[2:]  # The first ones have warmed up both.


@contextlib.asynccontextmanager
async def _pair(folder: Path, feature: Feature) -> AsyncIterator[tuple[Worker, Worker]]:
    served = snapshot([REPLICA_PORT], _SLOTS)
    has_records = feature.has_records
    async with (
        worker_on(folder / "0", feature.without(served), has_records=has_records[0]) as other,
        worker_on(
            folder / "1",
            feature.with_it(served),
            has_records=has_records[1],
            trace_share=feature.trace_share,
        ) as worker,
    ):
        if feature.strip is not None:
            feature.strip(other)
        yield other, worker


# Features taken out


def _open(served: Snapshot) -> Snapshot:
    """Without keys, and with the key's limit on the service instead."""
    (key,) = served.keys
    limits = msgspec.structs.replace(served.services[SERVICE].limits, quota=key.quota)
    limited = _on_service(limits=limits)(served)
    return msgspec.structs.replace(limited, keys=(), open=True)


def _unlimited(served: Snapshot) -> Snapshot:
    keys = tuple(msgspec.structs.replace(key, quota=Quota()) for key in served.keys)
    return msgspec.structs.replace(served, keys=keys)


def _no_canary(served: Snapshot) -> Snapshot:
    return _on_service(canary=None, canary_share=0.0, rollout=None, phase=0)(served)


def _uncounted(worker: Worker) -> None:
    worker.plant.metrics.tallies.count = lambda record: None  # type: ignore[method-assign]


def _unnamed(worker: Worker) -> None:
    assert worker.loaded is not None
    headers = worker.loaded.services[SERVICE].headers
    headers.update(dict.fromkeys(headers, b""))


# Features put in


def _shadowed(served: Snapshot) -> Snapshot:
    canary = served.services[SERVICE].canary
    assert canary is not None
    return _on_service(shadow=Shadow(canary, 0.1, concurrent=_SLOTS))(_no_canary(served))


def _on_service(**changes: Any) -> Change:
    def change(served: Snapshot) -> Snapshot:
        service = msgspec.structs.replace(served.services[SERVICE], **changes)
        return msgspec.structs.replace(served, services={SERVICE: service})

    return change


def _on_releases(**changes: Any) -> Change:
    def change(served: Snapshot) -> Snapshot:
        service: ServiceRoute = served.services[SERVICE]
        releases: dict[str, ReleaseRoute] = {
            digest: msgspec.structs.replace(release, **changes)
            for digest, release in service.releases.items()
        }
        return _on_service(releases=releases)(served)

    return change


def _guarded(on: str) -> Change:
    guardrail = Guardrail(name="pii", on=on, pii=("email",))  # type: ignore[arg-type]
    return _on_releases(guardrails=(guardrail,))


def _token_limit(served: Snapshot) -> Snapshot:
    quota = Quota(requests_per_minute=_MANY, tokens_per_minute=_MANY)
    keys = tuple(msgspec.structs.replace(key, quota=quota) for key in served.keys)
    return msgspec.structs.replace(served, keys=keys)


def _two_replicas(served: Snapshot) -> Snapshot:
    two = snapshot([REPLICA_PORT, REPLICA_PORT], _SLOTS).services[SERVICE].releases
    return _on_service(releases=two)(served)
