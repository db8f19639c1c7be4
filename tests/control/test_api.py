"""The REST API: who may call it, what it takes, and how it says no."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from control.simulated_world import DIRECT, NOWHERE, World
from fairlead.control.api import create_app
from fairlead.control.http import BODY_BYTES_MAX
from fairlead.control.views import RolloutView, StatusView
from fairlead.domain import errors
from fairlead.wire.snapshot import decode_snapshot

TOKEN = "the-token"
PUBLIC = {"/healthz", "/openapi.json"}
CALLS = {
    "PUT /api/v1/keys/{key}/limits",
    "GET /api/v1/tenants/{tenant}",
    "PUT /api/v1/tenants/{tenant}",
    "GET /healthz",
    "GET /metrics",
    "GET /metrics/replicas",
    "GET /api/v1/status",
    "GET /api/v1/rollouts",
    "POST /api/v1/rollouts",
    "GET /api/v1/rollouts/{rollout}",
    "GET /api/v1/rollouts/{rollout}/observations",
    "GET /api/v1/bias",
    "GET /api/v1/services/{service}/bias/scores",
    "POST /api/v1/services/{service}/bias/scores",
    "GET /api/v1/services/{service}/bias/differences",
    "POST /api/v1/services/{service}/bias/accept",
    "GET /api/v1/probes",
    "POST /api/v1/services/{service}/probes/{command}",
    "POST /api/v1/rollouts/{rollout}/{command}",
    "POST /api/v1/evaluations",
    "POST /api/v1/plans",
    "PUT /api/v1/services/{service}",
    "POST /api/v1/services/{service}/rollback",
    "GET /api/v1/records",
    "GET /api/v1/events",
    "GET /api/v1/drills",
    "GET /api/v1/drills/{drill}",
    "POST /api/v1/services/{service}/drills",
    "GET /api/v1/diversions",
    "GET /api/v1/tightenings",
    "POST /api/v1/services/{service}/undivert",
    "POST /api/v1/services/{service}/guardrails/{guardrail}/loosen",
    "GET /api/v1/proposals",
    "GET /api/v1/suites",
    "GET /api/v1/suites/{version}",
    "POST /api/v1/suites/{version}/refuse",
    "GET /api/v1/bias/tracked",
    "POST /api/v1/services/{service}/bias/scores/accept",
    "GET /api/v1/samples",
    "DELETE /api/v1/samples",
    "PUT /api/v1/services/{service}/judge/error",
    "GET /api/v1/keys",
    "POST /api/v1/keys",
    "POST /api/v1/keys/first",
    "DELETE /api/v1/keys/{key}",
    "GET /api/v1/alerts",
    "GET /api/v1/alerts/{fingerprint}",
    "GET /api/v1/alerts/{fingerprint}/picture.svg",
    "GET /api/v1/incidents",
    "GET /api/v1/incidents/{number}",
    "POST /api/v1/incidents/merge",
    "POST /api/v1/incidents/{number}/close",
    "POST /api/v1/incidents/{number}/note",
    "GET /api/v1/silences",
    "POST /api/v1/silences",
    "DELETE /api/v1/silences/{silence}",
    "GET /api/v1/monitors",
    "POST /api/v1/monitors/{service}/{monitor}/accept",
    "GET /api/v1/monitors/{service}/cases",
    "GET /api/v1/actions",
}


@pytest.fixture
async def stranger(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    transport = httpx.ASGITransport(create_app(world.plane, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as made:
        yield made


@pytest.fixture
async def client(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with the token."""
    stranger.headers["authorization"] = f"Bearer {TOKEN}"
    return stranger


def spec_of(world: World, release: str, **changes: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(world.spec(release, **changes)))


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Every error has this form."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"code", "message", "hint"}
    assert body["code"] == code
    assert body["message"]
    return body


async def paths(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    document = (await client.get("/openapi.json")).json()
    return [
        (
            method,
            path.format(
                rollout="ro-1",
                command="pause",
                service="bank",
                key="k",
                tenant="t",
                drill="dr-1",
                fingerprint="ab",
                number=1,
                silence="si-1",
                version="sv-1",
                monitor="slo",
                guardrail="g",
            ),
        )
        for path, methods in document["paths"].items()
        for method in methods
    ]


async def test_every_path_but_the_public_ones_needs_the_token(
    stranger: httpx.AsyncClient,
) -> None:
    """The answer is the same whatever was called, and whether it exists."""
    answers = set()
    for method, path in [*await paths(stranger), ("post", "/internal/v1/sync")]:
        if path in PUBLIC:
            assert (await stranger.request(method, path)).status_code == 200
            continue
        for given in ("", "Bearer wrong", TOKEN, f"Bearer {TOKEN}x", "Bearer é"):
            header = {"authorization": given} if given else {}
            raw = {name: value.encode("latin-1") for name, value in header.items()}
            answer = await stranger.request(method, path, headers=raw, content=b"{}")
            assert answer.status_code == 401, (method, path)
            answers.add(answer.text)
    assert len(answers) == 1
    assert TOKEN not in answers.pop()


async def test_the_document_is_valid_openapi_that_names_every_path(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["security"] == [{"control": []}]
    assert {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    } == CALLS
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        for reference in references(schema):
            kind = reference.removeprefix("#/components/schemas/")
            assert kind in document["components"]["schemas"], (name, reference)
    for reference in references(document["paths"]):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def references(value: Any) -> list[str]:
    """All `$ref` within a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    return []


async def test_what_does_not_fit_is_shipped_only_where_the_request_says_anyway(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.plane.planner, "_memory", lambda: 1)
    spec = spec_of(world, "a", plan=DIRECT)
    refused = await client.post("/api/v1/rollouts", json=spec)
    is_problem(refused, errors.Conflict.http_status, errors.Conflict.code)
    assert "does not fit: its weights need" in refused.json()["message"]
    assert (await client.get("/api/v1/rollouts")).json() == []
    begun = await client.post("/api/v1/rollouts", params={"anyway": "true"}, json=spec)
    assert begun.json()["outcome"] == "running"
    is_problem(await client.post("/api/v1/rollouts?anyway=maybe", json=spec), 400, "invalid")


async def test_a_rollout_is_shipped_listed_shown_and_steered(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await client.post("/api/v1/rollouts", json=spec_of(world, "a", plan=DIRECT))
    view = msgspec.json.decode(answer.content, type=RolloutView)
    assert (view.outcome, view.service) == ("running", "bank")
    await world.finish(view.id)
    listed = (await client.get("/api/v1/rollouts", params={"service": "bank"})).json()
    assert [(row["id"], row["served"]) for row in listed] == [(view.id, None)]
    assert (await client.get("/api/v1/rollouts", params={"service": "other"})).json() == []
    shown = (await client.get(f"/api/v1/rollouts/{view.id}")).json()
    assert (shown["outcome"], shown["served"]) == ("promoted", 0)
    assert [entry["state"] for entry in shown["history"]][-1] == "promoted"

    second = (await client.post("/api/v1/rollouts", json=spec_of(world, "b"))).json()["id"]
    paused = await client.post(f"/api/v1/rollouts/{second}/pause")
    assert paused.json()["paused"]
    is_problem(await client.post(f"/api/v1/rollouts/{second}/jump"), 400, "invalid")
    back = await client.post("/api/v1/services/bank/rollback", json={})
    assert back.json()["id"] == second
    assert back.json()["outcome"] == "aborted"
    events = (await client.get("/api/v1/events", params={"service": "bank"})).json()
    assert [e["kind"] for e in events][:2] == ["rollout_begun", "rollout_starting"]
    later = (await client.get("/api/v1/events", params={"after": events[1]["id"]})).json()
    assert later == events[2:]


async def test_errors_map_to_their_statuses(client: httpx.AsyncClient, world: World) -> None:
    is_problem(await client.get("/api/v1/rollouts/ro-none"), 404, "not_found")
    is_problem(await client.post("/api/v1/rollouts/ro-none/abort"), 404, "not_found")
    is_problem(await client.delete("/api/v1/keys/nobody"), 404, "not_found")
    is_problem(await client.post("/api/v1/services/x/rollback", json={}), 404, "not_found")
    is_problem(await client.get("/api/v1/records", params={"release": "zzz"}), 404, "not_found")
    await world.first_champion()
    again = await client.post("/api/v1/rollouts", json=spec_of(world, "a"))
    assert is_problem(again, 409, "conflict")["hint"]
    unknown = {**spec_of(world, "b"), "release": "sha256:" + "0" * 64}
    is_problem(await client.post("/api/v1/rollouts", json=unknown), 404, "not_found")


async def test_settings_of_the_champion_are_put(client: httpx.AsyncClient, world: World) -> None:
    await world.first_champion()
    changed = {**spec_of(world, "a", plan=DIRECT), "slos": {"availability": 0.5}}
    for expected in (True, False):
        answer = await client.put("/api/v1/services/bank", json=changed)
        assert answer.json()["changed"] is expected
    elsewhere = await client.put("/api/v1/services/shop", json=changed)
    is_problem(elsewhere, 400, "invalid")


async def test_what_the_framework_refuses_has_the_same_form(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/api/v1/nothing"), 404, "not_found")
    is_problem(await client.put("/api/v1/status"), 405, "invalid")
    is_problem(await client.get("/api/v1/rollouts", params={"limit": "many"}), 400, "invalid")
    for after in ("-1", "9" * 23, "9" * 5000):
        is_problem(await client.get("/api/v1/events", params={"after": after}), 400, "invalid")
    last = await client.get("/api/v1/events", params={"after": 2**63 - 1})
    assert last.json() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"name": 1}',
        b"{}",
        b'{"name": "\xff"}',
        b'{"name": ' + b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_what_is_asked_for_is_refused_with_the_place(
    client: httpx.AsyncClient, body: bytes
) -> None:
    problem = is_problem(await client.post("/api/v1/keys", content=body), 400, "invalid")
    assert problem["message"].startswith("body: ")


async def test_unknown_fields_are_refused_and_nothing_is_done(
    client: httpx.AsyncClient, world: World
) -> None:
    spec = spec_of(world, "a")
    gate = msgspec.to_builtins(world.gate([]))
    for body in (
        {**spec, "canery": 1},
        {**spec, "plan": {**spec["plan"], "stepps": []}},
        {**spec, "slos": {"availabilty": 0.9}},
        {**spec, "gates": [{**gate, "casses": 1}]},
    ):
        is_problem(await client.post("/api/v1/rollouts", json=body), 400, "invalid")
    is_problem(await client.post("/api/v1/keys", json={"name": "a", "x": 1}), 400, "invalid")
    roll = await client.post("/api/v1/services/bank/rollback", json={"too": "b"})
    is_problem(roll, 400, "invalid")
    assert world.store.services() == []
    assert world.store.list_keys() == []


async def test_a_plan_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, world: World
) -> None:
    spec = spec_of(world, "a")
    spec["plan"]["steps"] = [{"share": 0.5}, {"share": 0.2}]
    problem = is_problem(await client.post("/api/v1/rollouts", json=spec), 400, "invalid")
    assert "steps[1].share" in problem["message"]


GATE: dict[str, Any] = {
    "rule": {"name": "g", "minimum": 0.5}, "scorer": {"kind": "exact"},
    "suite": "sha256:" + "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"service": "Bank"}, "service"),
        ({"service": ""}, "service"),
        ({"service": "a" * 64}, "service"),
        ({"service": "a/b"}, "service"),
        ({"release": "sha256:abc"}, "release"),
        ({"release": "../../etc"}, "release"),
        ({"name": "x" * 129}, "name"),
        ({"limits": {"queue": -1}}, "limits.queue"),
        ({"limits": {"queue": 100_001}}, "limits.queue"),
        ({"limits": {"queue_timeout_s": 0}}, "limits.queue_timeout_s"),
        ({"limits": {"request_timeout_s": 1e9}}, "limits.request_timeout_s"),
        ({"limits": {"body_bytes_max": 0}}, "limits.body_bytes_max"),
        ({"limits": {"attempts": 11}}, "limits.attempts"),
        ({"slos": {"availability": 1.5}}, "slos.availability"),
        ({"slos": {"ttft_p95_ms": 0}}, "slos.ttft_p95_ms"),
        ({"gates": [{**GATE, "suite": "sha256:0"}]}, "gates[0].suite"),
        ({"gates": [{**GATE, "cases": -1}]}, "gates[0].cases"),
        ({"gates": [{**GATE, "concurrency": 0}]}, "gates[0].concurrency"),
        ({"gates": [{**GATE, "concurrency": 257}]}, "gates[0].concurrency"),
        ({"gates": [{**GATE, "rule": {"name": "g"}}]}, "gates[0].rule: asks for nothing"),
        ({"gates": [{**GATE, "rule": {"name": "a b", "minimum": 0}}]}, "gates[0].rule.name"),
        ({"gates": [{**GATE, "rule": {"name": "g", "minimum": 2}}]}, "gates[0].rule.minimum"),
        ({"gates": [{**GATE, "rule": {"name": "g", "margin": 1}}]}, "gates[0].rule.margin"),
        ({"gates": [GATE, GATE]}, "gates[1].rule.name"),
        ({"gates": [GATE] * 51}, "gates: 51"),
    ],
    ids=str,
)
async def test_a_spec_that_no_manifest_could_say_is_refused_with_the_place(
    client: httpx.AsyncClient, world: World, change: dict[str, Any], told: str
) -> None:
    spec = {**spec_of(world, "a"), **change}
    for method, path in (
        ("POST", "rollouts"), ("POST", "evaluations"), ("PUT", "services/bank"),
    ):  # fmt: skip
        answer = await client.request(method, f"/api/v1/{path}", json=spec)
        assert is_problem(answer, 400, "invalid")["message"].startswith(told)
    assert world.store.services() == []


async def test_bodies_are_bounded(client: httpx.AsyncClient) -> None:
    large = json.dumps({"name": "a" * BODY_BYTES_MAX}).encode()
    problem = is_problem(await client.post("/api/v1/keys", content=large), 400, "invalid")
    assert "larger than" in problem["message"]


@pytest.mark.parametrize("limit", [-5, 0, 1, 10**9, 10**30])
async def test_lists_are_bounded(client: httpx.AsyncClient, world: World, limit: int) -> None:
    await world.first_champion()
    for path in ("rollouts", "events", "records"):
        answer = await client.get(f"/api/v1/{path}", params={"limit": limit})
        assert answer.status_code == 200
        assert len(answer.json()) <= max(1, limit)


async def test_the_status_is_the_whole_installation(
    client: httpx.AsyncClient, world: World
) -> None:
    empty = msgspec.json.decode((await client.get("/api/v1/status")).content, type=StatusView)
    assert (empty.services, empty.observer_lag_s, empty.snapshot) == ([], 0.0, 0)
    world.fails["a"] = 0.0
    await world.first_champion()
    world.users_per_turn = 10
    await client.post("/api/v1/rollouts", json=spec_of(world, "b"))
    await world.until(lambda: world.rollouts()[0].state == "judging")
    await world.turn()
    status = msgspec.json.decode((await client.get("/api/v1/status")).content, type=StatusView)
    (service,) = status.services
    assert (service.champion_name, service.share) == ("a", 0.3)
    assert service.canary == world.digests["b"]
    assert {f.name for f in service.figures} == {"a", "b"}
    champion = next(f for f in service.figures if f.name == "a")
    assert champion.latency_ms_p95 is not None
    assert 20.0 < champion.latency_ms_p95 < 30.0
    assert champion.feedback["success"] == (champion.requests, 1.0)
    assert len(status.workers) == 2
    assert {r.base_url for r in status.replicas} == {NOWHERE}


async def test_promises_are_told_as_met_missed_or_not_measured(
    client: httpx.AsyncClient, world: World
) -> None:
    from fairlead.control.shipping.spec import Slos

    slos = Slos(availability=0.9, ttft_p95_ms=5.0, latency_p95_ms=30.0)
    await world.first_champion(slos=slos)

    async def told() -> dict[str, bool | None]:
        service = (await client.get("/api/v1/status")).json()["services"][0]
        return {slo["name"]: slo["met"] for slo in service["slos"]}

    assert await told() == {"availability": None, "ttft_p95_ms": None, "latency_p95_ms": None}
    world.users_per_turn = 5
    await world.turn()
    assert await told() == {"availability": True, "ttft_p95_ms": False, "latency_p95_ms": True}


async def test_records_are_found_by_release_rollout_and_service(
    client: httpx.AsyncClient, world: World
) -> None:
    await world.first_champion()
    world.users_per_turn = 4
    await world.turn()

    async def count(**query: str | int) -> int:
        return len((await client.get("/api/v1/records", params={"limit": 100, **query})).json())

    assert await count() == await count(service="bank") == await count(release="a") == 4
    assert await count(service="shop") == 0
    unknown = await client.get("/api/v1/records", params={"rollout": "ro-none"})
    is_problem(unknown, 404, "not_found")
    assert "there is no rollout 'ro-none'" in unknown.text
    assert await count(errors=1) == 0


async def test_a_key_is_made_shown_once_listed_and_revoked(
    client: httpx.AsyncClient, world: World
) -> None:
    first = (await client.post("/api/v1/keys/first")).json()
    assert first["key"].startswith("fl-")
    assert (await client.post("/api/v1/keys/first")).json() == {"key": None}
    world.now += 1
    made = (await client.post("/api/v1/keys", json={"name": "my app"})).json()
    is_problem(await client.post("/api/v1/keys", json={"name": "my app"}), 409, "conflict")
    listed = (await client.get("/api/v1/keys")).json()
    assert [key["name"] for key in listed] == ["default", "my app"]
    assert made["key"] not in json.dumps(listed)
    assert (await client.delete("/api/v1/keys/my%20app")).json()["revoked_at"] is not None
    assert len((await client.get("/api/v1/keys")).json()) == 1


async def test_a_worker_s_sync_gives_the_snapshot_once(
    client: httpx.AsyncClient, world: World
) -> None:
    await world.first_champion()
    asked = {"worker": 7, "boot": "b", "pid": 1, "version": 0, "open_replicas": [], "wait_s": 0}
    answer = await client.post("/internal/v1/sync", json=asked)
    snapshot = decode_snapshot(answer.content)
    assert snapshot == world.plane.hub.snapshot
    again = await client.post("/internal/v1/sync", json={**asked, "version": snapshot.version})
    assert (again.status_code, again.content) == (204, b"")


async def test_every_error_of_the_family_keeps_its_code_and_status(
    world: World, monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    for kind in (errors.Damaged, errors.StorageFailed, errors.Unavailable, errors.FairleadError):

        async def fail(kind: type[errors.FairleadError] = kind) -> None:
            raise kind("it broke", hint="mend it")

        monkeypatch.setattr(world.plane.reports, "status", fail)
        problem = is_problem(await client.get("/api/v1/status"), kind.http_status, kind.code)
        assert (problem["message"], problem["hint"]) == ("it broke", "mend it")
