"""Things go wrong under live traffic: each raises the alert that says what it is, and no other one.

Nobody ships anything. What changes is behind the provider's name, in what people ask, or in
fairlead's own processes. One service has honest traffic all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fairlead.cli.shipping import prepare
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.watching.watch_views import AlertView, MonitorView
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.installation import Installation
from support.live_rollouts import Users
from support.recorded_engine import Model, recorded_engine, text_of_question

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

LEARN = 200
RATE = 5.0
"""Sessions a second of each service."""
FOUND_S = 240.0
HONEST = "honest"
FAULTS: dict[str, tuple[Model, set[str]]] = {
    "failing": (Model(failing=0.3), {"errors", "slo"}),
    "slow": (Model(slower=3.0), {"latency"}),
    "broken": (Model(broken=0.4), {"format"}),
    "refusing": (Model(refusing=0.4), {"refusals"}),
    "dear": (Model(longer=4.0), {"length", "cost"}),
    "wrong": (Model(recorded="c"), {"quality"}),
}
"""By service: what its provider becomes, and the monitors of which one must say so first."""

EXPLAINED = {"slo", "quality", "format", "latency", "throughput", "length", "cost", "answer_drift"}
"""Consequences: an answer that fails, refuses or is broken is no good answer either."""

MANIFEST = """
service: {service}
release:
  name: hosted
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question."}}
  price: {{input_per_million: 1, output_per_million: 10}}
rollout: {{strategy: immediate}}
capture: {{share: 100%, retention_hours: 1, per_minute: 6000}}
slos: {{availability: 99%}}
monitoring:
  monitors: {{learn_requests: {learn}}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
"""


def english(question: int) -> str:
    return f"What is the answer to the question that I have, and how do I get it: {question}"


def german(question: int) -> str:
    return f"Wie ist die Antwort auf eine Frage, die ich nicht verstehe, und was ist mit {question}"


def spec(installation: Installation, service: str, port: int) -> ServiceSpec:
    text = MANIFEST.format(service=service, port=port, learn=LEARN)
    manifest = parse_manifest(text, Path("fairlead.yaml").absolute())
    return prepare(Registry(installation.paths.registry), manifest)


def firing(installation: Installation) -> dict[str, set[str]]:
    """Monitors whose alerts fire, by service."""
    found: dict[str, set[str]] = {}
    for alert in installation.control.get(list[AlertView], "alerts"):
        labels = dict(alert.labels)
        found.setdefault(labels.get("service", ""), set()).add(labels["monitor"])
    return found


def standings(installation: Installation) -> list[str]:
    """How far the monitors are."""
    return [
        f"{one.service} {one.monitor}: {one.standing} {one.trouble}"
        for one in installation.control.get(list[MonitorView], "monitors")
    ]


async def until(done: Callable[[], bool], what: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(done):
        assert time.monotonic() < deadline, str(what())
        await asyncio.sleep(0.5)


def served(users: Iterable[Users]) -> int:
    return min(one.statuses[200] for one in users)


async def test_each_fault_raises_its_alert_and_honest_traffic_none(
    installation: Installation,
) -> None:
    names = [HONEST, "german", *FAULTS]
    models = {name: Model() for name in names}
    stop = asyncio.Event()
    async with recorded_engine(models) as port:
        for name in names:
            made = await asyncio.to_thread(spec, installation, name, port)
            shipped = await asyncio.to_thread(installation.ship, made)
            ended = await asyncio.to_thread(installation.finish, shipped.id)
            assert ended.outcome == "promoted"
        users = [
            Users(installation.gateway, installation.key, [name], RATE, seed)
            for seed, name in enumerate(names)
        ]
        users[1].says["german"] = english
        coming = [asyncio.create_task(one.run(stop)) for one in users]
        try:
            await until(lambda: served(users) > 2 * LEARN, lambda: served(users), 240.0)
            assert firing(installation) == {}

            for name, (model, _) in FAULTS.items():
                models[name] = model
            users[1].says["german"] = german
            expected = {name: said for name, (_, said) in FAULTS.items()} | {"german": {"language"}}
            await until(
                lambda: all(firing(installation).get(n, set()) & s for n, s in expected.items()),
                lambda: (firing(installation), standings(installation)),
                FOUND_S,
            )
            found = firing(installation)
            assert HONEST not in found
            for name, said in expected.items():
                assert found[name] <= said | EXPLAINED, (name, found[name])
            await observer_is_missed(installation)
        finally:
            stop.set()
            await asyncio.gather(*coming)


async def observer_is_missed(installation: Installation) -> None:
    """The observer hangs: nothing is recorded any more, which is an alert."""
    (observer,) = installation.pids("observer_process")
    await until(lambda: hangs(installation, observer), lambda: "it holds the store", 30.0)
    try:
        await until(
            lambda: "records" in firing(installation).get("", set()),
            lambda: firing(installation),
            FOUND_S,
        )
    finally:
        os.kill(observer, signal.SIGCONT)


def hangs(installation: Installation, observer: int) -> bool:
    """Stop the observer, unless it holds the store's lock just now: nobody could write then."""
    os.kill(observer, signal.SIGSTOP)
    path = installation.paths.store_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as store:
        try:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
        except sqlite3.OperationalError:
            os.kill(observer, signal.SIGCONT)
            return False
    return True


def test_the_text_of_questions_is_what_the_engine_reads() -> None:
    assert german(7).rpartition(" ")[2] == text_of_question(7).rpartition(" ")[2]
