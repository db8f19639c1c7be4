"""Promises that are really broken, from the gateway's metrics to a webhook.

The rules are what `fairlead monitor rules` writes for the manifests. A real Prometheus scrapes a
real gateway, as the docs say it, and tells a real Alertmanager, which calls a webhook. The rules
are there twice: as they are, and (those of promises) once more in a time that goes sixty times as
fast, so that an alert's end is seen, too. What Prometheus tells is what fairlead itself tells.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from control.notify.receiving import HttpReceiver
from fairlead.cli.shipping import prepare
from fairlead.control.watching.watch_views import AlertView
from fairlead.manifest import load_manifest
from fairlead.registry import Registry
from support.alertmanager import MISSING as NO_ALERTMANAGER
from support.alertmanager import PROGRAM as ALERTMANAGER
from support.alertmanager import RealAlertmanager
from support.installation import Installation
from support.live_rollouts import Users
from support.prometheus import MISSING, PROGRAM, RealPrometheus, documented_scrapes, scaled
from support.recorded_engine import Model, recorded_engine
from support.told_alerts import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
    pytest.mark.skipif(ALERTMANAGER is None, reason=NO_ALERTMANAGER),
]
RATE = 8.0
HONEST_S = 5.0
MODELS = {"honest": Model(), "failing": Model(), "late": Model(slower=20.0), "poor": Model()}
"""Answers are there after 0.2 s, and `late` after 4: it breaks its promise from the first on."""

BROKEN = {"failing": "availability", "late": "latency", "poor": "quality"}
MANIFEST = """
service: {service}
release:
  name: first
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question."}}
slos: {{availability: 99%, latency_p95_ms: 1000}}
rollout: {{strategy: immediate}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
"""
JUDGED = """
capture: {{share: 1, per_minute: 6000}}
judge: {{model: "openai+http://127.0.0.1:{port}/v1?model=grader", concurrency: 4}}
monitoring: {{judge: {{share: 1}}}}
"""
"""What `poor` has besides; the honest one as well, by a judge that finds its answers good."""

Labels = frozenset[tuple[str, str]]


class Told:
    """What has come to the webhook."""

    def __init__(self, http: HttpReceiver) -> None:
        self._http = http

    def states(self) -> dict[Labels, str]:
        """The last state of each alert, by its labels."""
        with self._http.came:
            calls = list(self._http.calls)
        return {
            frozenset(alert["labels"].items()): alert["status"]
            for call in calls
            for alert in call.json["alerts"]
        }


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()


@pytest.fixture
def alertmanager(tmp_path: Path, http: HttpReceiver) -> Iterator[RealAlertmanager]:
    made = RealAlertmanager(tmp_path / "alertmanager", f"{http.url}/hook")
    yield made
    made.stop()


class Judge:
    """Gives every answer the same score."""

    def __init__(self, score: int) -> None:
        self.score = score
        self.server = AnsweringReplica(self._grade)

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def _grade(self, _: str) -> str:
        return json.dumps({"reason": "by the rule", "score": self.score})


@pytest.fixture
def judges() -> Iterator[dict[str, Judge]]:
    made = {"poor": Judge(1), "honest": Judge(5)}
    yield made
    for judge in made.values():
        judge.server.close()


async def test_broken_promises_fire_in_prometheus_reach_the_webhook_and_end(
    installation: Installation,
    alertmanager: RealAlertmanager,
    http: HttpReceiver,
    judges: dict[str, Judge],
    tmp_path: Path,
) -> None:
    told = Told(http)
    async with recorded_engine(MODELS) as engine:
        ports = {name: judge.port for name, judge in judges.items()}
        manifests = await asyncio.to_thread(ship, installation, tmp_path, engine.port, ports)
        prometheus = await asyncio.to_thread(
            started, installation, tmp_path, manifests, alertmanager
        )
        stop = asyncio.Event()
        users = [Users(installation.gateway, installation.key, [name], RATE) for name in MODELS]
        coming = [asyncio.create_task(one.run(stop)) for one in users]
        try:
            await asyncio.sleep(HONEST_S)
            await engine.become({"failing": Model(failing=1.0)})
            await all_fire(told, prometheus, installation)
            await engine.become({"failing": Model(), "late": Model()})
            judges["poor"].score = 5
            await pages_end(told)
        finally:
            stop.set()
            await asyncio.gather(*coming)
            await asyncio.to_thread(prometheus.stop)
    services = {dict(labels).get("service", "") for labels in told.states()}
    assert services == set(BROKEN), "nothing is told of the honest service, or of the platform"


def ship(
    installation: Installation, folder: Path, port: int, judges: Mapping[str, int]
) -> list[Path]:
    """Ship a release to each service; their manifests."""
    paths, rollouts = [], []
    for service in MODELS:
        paths.append(folder / f"{service}.yaml")
        text = MANIFEST.format(service=service, port=port)
        if service in judges:
            text = text.replace("1000}", "1000, quality: 90%}")
            text += JUDGED.format(port=judges[service])
        paths[-1].write_text(text)
        spec = prepare(Registry(installation.paths.registry), load_manifest(paths[-1]))
        rollouts.append(installation.ship(spec).id)
    assert {installation.finish(one).outcome for one in rollouts} == {"promoted"}
    return paths


def started(
    installation: Installation,
    folder: Path,
    manifests: Sequence[Path],
    alertmanager: RealAlertmanager,
) -> RealPrometheus:
    """A Prometheus with the rules of the manifests, as a user makes them."""
    command = [sys.executable, "-m", "fairlead", "monitor", "rules"]
    for path in manifests:
        command += ["--file", str(path)]
    rules = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # In that time nobody would be seen after seven seconds of ours, which a start may take.
    promises = scaled(rules, without="monitor_blind")
    return RealPrometheus(
        folder / "prometheus",
        documented_scrapes(installation),
        {"fairlead": rules, "scaled": promises},
        alertmanager.url.removeprefix("http://"),
    )


def page(service: str, slo: str, *, is_scaled: bool) -> Labels:
    """Labels of a page about a promise."""
    labels = {
        "alertname": "FairleadSlo", "severity": "page", "monitor": "slo", "service": service,
        "slo": slo, "burn": "fast",
    }  # fmt: skip
    return frozenset((labels | ({"scaled": "yes"} if is_scaled else {})).items())


async def all_fire(told: Told, prometheus: RealPrometheus, installation: Installation) -> None:
    """In Prometheus, at the webhook and in fairlead itself, with the same labels."""
    pages = [
        page(service, slo, is_scaled=each)
        for service, slo in BROKEN.items()
        for each in (False, True)
    ]
    await until(lambda: all(told.states().get(one) == "firing" for one in pages), told.states, 60.0)
    firing = await asyncio.to_thread(
        prometheus.ask, 'ALERTS{alertstate="firing",severity="page",scaled=""}'
    )
    there = {(one["metric"]["service"], one["metric"]["slo"]) for one in firing}
    assert there == set(BROKEN.items())

    def own() -> set[Labels]:
        found = installation.control.get(list[AlertView], "alerts", limit=1000)
        return {
            frozenset({**one.labels, "alertname": "FairleadSlo", "severity": one.severity}.items())
            for one in found
            if one.monitor == "slo" and one.severity == "page" and one.state == "firing"
        }

    wanted = {page(service, slo, is_scaled=False) for service, slo in BROKEN.items()}
    await until(lambda: own() == wanted, own, 60.0)


async def pages_end(told: Told) -> None:
    """Half a minute after the trouble, where an hour is a minute; those of real time go on."""
    ended = [page(service, slo, is_scaled=True) for service, slo in BROKEN.items()]
    await until(
        lambda: all(told.states().get(one) == "resolved" for one in ended), told.states, 120.0
    )
    for service, slo in BROKEN.items():
        assert told.states()[page(service, slo, is_scaled=False)] == "firing"
