"""Replicas' own metrics come out by release; one that does not answer costs its own alone."""

from __future__ import annotations

import pytest

from control.metrics.test_engine_text import LLAMA_CPP, VLLM
from control.simulated_world import World
from fairlead.control.metrics.replica_metrics import (
    STALE_S,
    STRANGE_S,
    Place,
    ReplicaMetrics,
    ask,
)
from fairlead.domain.outbound import DIRECT
from fairlead.domain.release import short
from fairlead.gateway.records.metric_families import render
from fairlead.targets.http import HttpFailed
from support.metrics import MISSING, PROMTOOL, lint, value
from support.prometheus import Exporter


class Replicas:
    """What replicas answer, by address; notes who was asked."""

    def __init__(self) -> None:
        self.says: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []

    async def __call__(self, place: Place) -> bytes:
        self.asked.append(place.url)
        said = self.says.get(place.url, LLAMA_CPP)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture
async def metrics(world: World, replicas: Replicas) -> ReplicaMetrics:
    await world.first_champion()
    plane = world.plane
    return ReplicaMetrics(
        plane._overview.wants, plane._fleet.replicas, lambda: world.now, ask=replicas
    )


def text(metrics: ReplicaMetrics) -> str:
    return render(metrics.states()).decode()


async def test_they_are_shown_by_service_release_and_replica(
    metrics: ReplicaMetrics, world: World
) -> None:
    assert value(text(metrics), "fairlead_replica_requests_running") is None
    await metrics.round()
    (replica,) = world.target.replicas()
    labels = {
        "service": "bank", "release": short(world.digests["a"]), "replica": replica.id,
        "engine": "llama.cpp",
    }  # fmt: skip
    said = text(metrics)
    assert value(said, "fairlead_replica_requests_running", **labels) == 2
    assert value(said, "fairlead_replica_generation_tokens_total", **labels) == 300
    assert value(said, "fairlead_replica_kv_cache_usage_ratio") is None
    assert value(said, "fairlead_replica_scrape_failures_total") == 0


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
async def test_prometheus_finds_nothing_wrong_with_them(
    metrics: ReplicaMetrics, replicas: Replicas
) -> None:
    replicas.says["http://127.0.0.1:9/metrics"] = VLLM
    await metrics.round()
    assert 'engine="vllm"' in text(metrics)
    assert lint(text(metrics)) == ""


@pytest.mark.parametrize("trouble", [HttpFailed("no answer"), b"llamacpp:requests_processing x\n"])
async def test_one_that_fails_is_counted_and_its_figures_go_when_they_are_old(
    metrics: ReplicaMetrics, replicas: Replicas, world: World, trouble: bytes | Exception
) -> None:
    await metrics.round()
    replicas.says["http://127.0.0.1:9/metrics"] = trouble
    world.now += STALE_S / 2
    await metrics.round()
    assert value(text(metrics), "fairlead_replica_scrape_failures_total") == 1
    assert value(text(metrics), "fairlead_replica_requests_running") == 2
    world.now += STALE_S
    assert value(text(metrics), "fairlead_replica_requests_running") is None


async def test_an_engine_that_is_not_known_is_left_out_and_left_alone(
    metrics: ReplicaMetrics, replicas: Replicas, world: World
) -> None:
    replicas.says["http://127.0.0.1:9/metrics"] = b"up 1\n"
    await metrics.round()
    await metrics.round()
    assert len(replicas.asked) == 1
    assert value(text(metrics), "fairlead_replica_requests_running") is None
    assert value(text(metrics), "fairlead_replica_scrape_failures_total") == 0
    replicas.says.clear()
    world.now += STRANGE_S
    await metrics.round()
    assert value(text(metrics), "fairlead_replica_requests_running") == 2


async def test_one_that_is_gone_is_not_shown_and_a_provider_is_not_asked(
    metrics: ReplicaMetrics, replicas: Replicas, world: World
) -> None:
    await metrics.round()
    world.target.lose(world.target.replicas()[0].id)
    assert value(text(metrics), "fairlead_replica_requests_running") is None
    asked = len(replicas.asked)
    world.target.base_urls = lambda _engine: "https://llm.example/v1"
    for _ in range(3):
        await world.turn()
    assert world.target.replicas()[0].base_url == "https://llm.example/v1"
    await metrics.round()
    assert len(replicas.asked) == asked


async def test_a_path_of_the_address_is_no_part_of_it(
    metrics: ReplicaMetrics, replicas: Replicas, world: World
) -> None:
    """A model server's API is below /v1, and its metrics are not."""
    world.target.lose(world.target.replicas()[0].id)
    world.target.base_urls = lambda _engine: "http://10.0.0.5:8000/v1"
    for _ in range(3):
        await world.turn()
    await metrics.round()
    assert replicas.asked == ["http://10.0.0.5:8000/metrics"]


async def test_it_is_asked_over_http_without_a_key() -> None:
    exporter = Exporter()
    try:
        exporter.add("llamacpp:requests_processing", 3)
        place = Place(f"http://{exporter.address}/metrics", DIRECT)
        assert await ask(place) == b"llamacpp:requests_processing 3.0\n"
    finally:
        exporter.close()
    with pytest.raises(HttpFailed):
        await ask(place)
