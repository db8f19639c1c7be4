"""What control says at a scrape is what is the case, and only a token opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from control.simulated_world import DIRECT, World
from fairlead.control.api import create_app
from fairlead.control.metrics.families import Families
from fairlead.control.metrics.observer_families import add_observer, read_standing
from fairlead.control.metrics.pulse import Pulse
from fairlead.domain.errors import StorageFailed
from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState
from fairlead.gateway.front.scrapers import metrics_token
from fairlead.gateway.records.metric_families import Family, render
from fairlead.monitoring.alerts import observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import Desk
from fairlead.wire.observing import STANDING_BYTES_MAX, ObserverStanding, encode_standing
from support.metrics import MISSING, PROMTOOL, lint, names, value

TOKEN = "the-token"


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(world.plane, TOKEN))
    headers = {"authorization": f"Bearer {metrics_token(TOKEN)}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://control", headers=headers
    ) as made:
        yield made


async def scrape(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


async def test_the_scrapers_token_opens_the_metrics_and_nothing_else(
    client: httpx.AsyncClient,
) -> None:
    await scrape(client)
    for path in ("/api/v1/status", "/api/v1/keys", "/api/v1/records"):
        assert (await client.get(path)).status_code == 401, path
    assert (await client.post("/internal/v1/sync", json={})).status_code == 401
    client.headers["authorization"] = f"Bearer {TOKEN}"
    await scrape(client)
    client.headers["authorization"] = f"Bearer {metrics_token(TOKEN + 'x')}"
    assert (await client.get("/metrics")).status_code == 401


async def test_rollouts_releases_and_replicas_are_as_they_are(
    client: httpx.AsyncClient, world: World
) -> None:
    await world.first_champion()
    champion = short(world.digests["a"])
    canary = short(world.digests["b"])
    text = await scrape(client)
    assert value(text, "fairlead_rollouts", service="bank", state="promoted") == 1
    of = {"service": "bank", "release": champion}
    assert value(text, "fairlead_release_share", **of, arm="champion") == 1
    assert value(text, "fairlead_release_info", **of, arm="champion", name="a") == 1
    ready = value(text, "fairlead_replicas", **of, state="ready")
    assert ready == value(text, "fairlead_replicas_wanted", **of)
    assert ready

    world.target.set_state(world.target.replicas()[0].id, ReplicaState.UNHEALTHY)
    await world.plane.ship(world.spec("b"))
    for _ in range(3):
        await world.turn()
    text = await scrape(client)
    assert value(text, "fairlead_replicas", **of, state="unhealthy") == 1
    assert value(text, "fairlead_release_share", service="bank", release=canary) == 0.3
    assert value(text, "fairlead_release_share", **of) == 0.7
    assert value(text, "fairlead_rollouts", service="bank", state="promoted") == 1


async def test_alerts_are_counted_by_what_they_are(client: httpx.AsyncClient, world: World) -> None:
    assert value(await scrape(client), "fairlead_alerts") is None
    conditions = [
        Condition(labels_of(monitor="slo", service="bank", slo=slo), Severity.PAGE, slo)
        for slo in ("ttft", "availability")
    ]
    alerts = observe({}, conditions, {("slo", "bank")}, 1.0)
    world.plane.exposition.desk = lambda: Desk(alerts=alerts)
    text = await scrape(client)
    labels = {"service": "bank", "monitor": "slo", "severity": "page", "state": "firing"}
    assert value(text, "fairlead_alerts", **labels) == 2
    ended = observe(alerts, [], {("slo", "bank")}, 1.0 + 86_400)
    ended = observe(ended, [], {("slo", "bank")}, 1.0 + 2 * 86_400)
    world.plane.exposition.desk = lambda: Desk(alerts=ended)
    assert value(await scrape(client), "fairlead_alerts") is None


async def test_samples_that_wait_for_a_judge_model_are_counted_and_aged(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = SimpleNamespace(service="bank", rollout="ro-1", pending=3, oldest=world.now - 7.0)
    idle = SimpleNamespace(service="shop", rollout="ro-2", pending=0, oldest=None)
    monkeypatch.setattr(world.plane.judging, "queues", lambda: [behind, idle])
    text = await scrape(client)
    assert value(text, "fairlead_judge_pending", service="bank", rollout="ro-1") == 3
    assert value(text, "fairlead_judge_oldest_seconds", service="bank", rollout="ro-1") == 7
    assert value(text, "fairlead_judge_oldest_seconds", service="shop", rollout="ro-2") == 0


async def test_parts_that_count_for_themselves_are_shown(
    client: httpx.AsyncClient, world: World
) -> None:
    sent = Family("fairlead_notifications_total", "counter", "Sent.", ("receiver",))
    sent.inc(("pager",), 3)
    world.plane.exposition.others.append(lambda: [sent.state()])
    assert value(await scrape(client), "fairlead_notifications_total", receiver="pager") == 3


async def test_a_store_that_refuses_costs_what_is_read_from_it_alone(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    assert value(await scrape(client), "fairlead_store_up") == 1

    def refuse() -> float:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(world.store, "watermark", refuse)
    text = await scrape(client)
    assert value(text, "fairlead_store_up") == 0
    assert value(text, "fairlead_rollouts") is None
    assert value(text, "fairlead_replicas", state="ready")


async def test_the_observer_is_shown_by_what_it_wrote_last(
    client: httpx.AsyncClient, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "observer.json"
    world.plane.exposition.observer = lambda: read_standing(path)
    assert value(await scrape(client), "fairlead_observer_up") == 0
    standing = ObserverStanding(
        at=world.now, started_at=5.0, requests=7, feedback=2, damaged=1, spools=2, spool_bytes=99,
        archives=True, archived_until=world.now - 4.0, traces={"sent": 3},
    )  # fmt: skip
    path.write_bytes(encode_standing(standing))
    text = await scrape(client)
    assert value(text, "fairlead_observer_up") == 1
    assert value(text, "fairlead_observer_records_total", kind="request") == 7
    assert value(text, "fairlead_observer_records_total", kind="feedback") == 2
    assert value(text, "fairlead_observer_damaged_frames_total") == 1
    assert value(text, "fairlead_observer_spool_bytes") == 99
    assert value(text, "fairlead_observer_archive_lag_seconds") == 4
    assert value(text, "fairlead_observer_spans_total", outcome="sent") == 3
    world.now += 60
    text = await scrape(client)
    assert value(text, "fairlead_observer_up") == 0
    assert value(text, "fairlead_observer_records_total", kind="request") is None


@pytest.mark.parametrize("data", [b"", b"{", b'{"at": "x"}', b"[" * STANDING_BYTES_MAX * 2])
def test_a_damaged_standing_of_the_observer_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "observer.json").write_bytes(data)
    assert read_standing(tmp_path / "observer.json") is None


def test_a_lag_that_is_not_known_is_not_shown_as_one() -> None:
    families = Families()
    add_observer(families, ObserverStanding(at=9.0, started_at=1.0, archives=True), 9.0)
    assert "fairlead_observer_archive_lag_seconds" not in names(render(families.states()).decode())


def test_turns_are_counted_and_timed_also_those_that_fail() -> None:
    now = 10.0
    pulse = Pulse(lambda: now)
    with pulse.turn():
        now += 0.03

    def refused() -> None:
        nonlocal now
        with pulse.turn():
            now += 2.0
            raise StorageFailed("full")

    with pytest.raises(StorageFailed):
        refused()
    now += 5.0
    text = render(pulse.states()).decode()
    assert value(text, "fairlead_control_turns_total", outcome="done") == 1
    assert value(text, "fairlead_control_turns_total", outcome="failed") == 1
    assert value(text, "fairlead_control_turn_seconds_bucket", le="0.05") == 1
    assert value(text, "fairlead_control_turn_seconds_sum") == pytest.approx(2.03)
    assert value(text, "fairlead_control_turn_age_seconds") == pytest.approx(5.0)


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
async def test_prometheus_finds_nothing_wrong_with_it(
    client: httpx.AsyncClient, world: World
) -> None:
    """Names, units, help and types, as its own linter sees them."""
    assert "no help" in lint("wrong 1\n")
    await world.plane.ship(world.spec("a", plan=DIRECT))
    standing = ObserverStanding(world.now, 1.0, archives=True, archived_until=1.0)
    world.plane.exposition.observer = lambda: standing
    await world.turn()
    assert lint(await scrape(client)) == ""
