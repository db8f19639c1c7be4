"""Limits as a client meets them: over HTTP, with a real worker, engines and control's side."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import openai
import pytest
from gateway_rig import (
    CHAT,
    KEYS,
    OTHER_KEY,
    USAGE,
    A,
    Asked,
    Control,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    error_of,
    event,
    head,
    route,
    running,
    snapshot,
    streams,
    until,
)

from fairlead.domain.quota import NO_QUOTA, Price, Quota
from fairlead.wire.quota import GRANTS_TYPE, Grant, Grants, QuotaReport
from fairlead.wire.snapshot import Snapshot, SyncRequest, encode_snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
TOKENS = USAGE["prompt_tokens"] + USAGE["completion_tokens"]
STREAM = {**CHAT, "stream": True}
DAY = "key:k1:tokens_per_day"


@pytest.fixture(autouse=True)
async def early_in_the_minute() -> None:
    """What a test does must be in one window."""
    second = time.time() % 60
    if second > 50:
        await asyncio.sleep(60.2 - second)


def limited(
    given: Snapshot,
    quota: Quota,
    *,
    tenant: Quota | None = None,
    service: Quota = NO_QUOTA,
    workers: int = 1,
) -> Snapshot:
    """The snapshot with limits on its first key, its tenant and its service."""
    key = msgspec.structs.replace(KEYS[0], quota=quota, tenant="acme" if tenant else None)
    bank = given.services["bank"]
    limits = msgspec.structs.replace(bank.limits, quota=service)
    return msgspec.structs.replace(
        given,
        keys=(key, *KEYS[1:]),
        tenants={"acme": tenant} if tenant else {},
        services={"bank": msgspec.structs.replace(bank, limits=limits)},
        workers=workers,
    )


def used(rig: Rig, limit: str) -> int:
    assert rig.worker is not None
    return rig.worker._quotas.meters[limit].window.used


async def test_requests_beyond_the_limit_are_told_which_one_and_when_it_resets(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(limited(snapshot(route(A, one)), Quota(requests_per_minute=2)))
    async with rig.client() as client, rig.client(OTHER_KEY) as other:
        got = [await client.post(PATH, json=CHAT) for _ in range(3)]
        assert [a.status_code for a in got] == [200, 200, 429]
        assert [a.headers["x-ratelimit-remaining-requests"] for a in got] == ["1", "0", "0"]
        assert {a.headers["x-ratelimit-limit-requests"] for a in got} == {"2"}
        assert all(re.fullmatch(r"(1m)?\d+s", a.headers["x-ratelimit-reset-requests"]) for a in got)
        assert "x-ratelimit-limit-tokens" not in got[0].headers
        refused = got[2].json()["error"]
        assert (refused["code"], refused["type"]) == ("rate_limit_exceeded", "requests")
        assert "2 requests per minute of this API key" in refused["message"]
        assert 0 < int(got[2].headers["retry-after"]) <= 60
        free = await other.post(PATH, json=CHAT)
        assert free.status_code == 200
        assert not [name for name in free.headers if name.startswith("x-ratelimit")]
        metrics = (await client.get("/metrics")).text
    assert 'fairlead_gateway_rejected_total{reason="rate_limit_exceeded"} 1' in metrics
    limit = 'limit="key:k1:requests_per_minute",worker="0"'
    assert f"fairlead_gateway_limit_used{{{limit}}} 2" in metrics
    assert f"fairlead_gateway_limit{{{limit}}} 2" in metrics
    assert len(one.asked) == 3
    assert [r.status for r in rig.requests()] == [200] * 3


async def test_the_openai_client_sees_a_rate_limit_error(engine: StartEngine, serve: Serve) -> None:
    given = limited(
        snapshot(route(A, await engine())), NO_QUOTA, service=Quota(requests_per_minute=1)
    )
    rig = await serve(given)
    async with rig.client() as plain:
        client = openai.AsyncOpenAI(
            api_key="secret-key-1", base_url=f"{rig.url}/v1", max_retries=0, http_client=plain
        )
        client = client.with_options(api_key=plain.headers["authorization"].removeprefix("Bearer "))
        ask = client.chat.completions.create
        messages = CHAT["messages"]
        await ask(model="bank", messages=messages)
        with pytest.raises(openai.RateLimitError, match="of the service `bank`"):
            await ask(model="bank", messages=messages)


async def test_tokens_are_settled_with_what_the_engine_reports_plain_and_streamed(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(limited(snapshot(route(A, one)), Quota(tokens_per_day=100_000)))
    async with rig.client() as client:
        first = await client.post(PATH, json={**CHAT, "max_tokens": 5000})
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 95_000
        assert used(rig, DAY) == TOKENS
        one.behave = streams("a", "b")
        streamed = await client.post(PATH, json=STREAM)
        assert '"usage"' not in streamed.text
        assert used(rig, DAY) == 2 * TOKENS
        one.behave = answers(status=400, body=b'{"error":{}}')
        assert (await client.post(PATH, json=CHAT)).status_code == 400
        assert used(rig, DAY) == 2 * TOKENS
        metrics = (await client.get("/metrics")).text
    assert "fairlead_gateway_usage_estimated_total{" not in metrics


async def silent_stream(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Three events, and no usage though it was asked for."""
    writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
    writer.write(b"".join(chunk(event(text)) for text in "abc"))
    writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
    await writer.drain()


async def test_where_the_engine_reports_no_usage_events_are_counted_and_that_is_marked(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(silent_stream)
    rig = await serve(limited(snapshot(route(A, one)), Quota(tokens_per_day=100_000)))
    async with rig.client() as client:
        body = json.dumps(STREAM).encode()
        await client.post(PATH, content=body)
        assert used(rig, DAY) == len(body) // 4 + 1 + 3
        one.behave = answers(body=b'{"choices":[]}')
        await client.post(PATH, json={**CHAT, "max_tokens": 50})
        assert used(rig, DAY) > len(body) // 4 + 1 + 3 + 50
        metrics = (await client.get("/metrics")).text
    assert 'fairlead_gateway_usage_estimated_total{service="bank"} 2' in metrics
    assert [r.completion_tokens for r in rig.requests()] == [-1, -1]


async def test_a_request_that_could_use_more_than_is_left_is_refused_and_let_in_when_it_is_less(
    engine: StartEngine, serve: Serve
) -> None:
    rig = await serve(limited(snapshot(route(A, await engine())), Quota(tokens_per_minute=500)))
    async with rig.client() as client:
        never = await client.post(PATH, json={**CHAT, "max_tokens": 501})
        assert error_of(never) == (429, "rate_limit_exceeded")
        assert "retry-after" not in never.headers
        assert "max_tokens" in never.json()["error"]["message"]
        assert (await client.post(PATH, json={**CHAT, "max_tokens": 400})).status_code == 200
        assert (await client.post(PATH, json={**CHAT, "max_tokens": 400})).status_code == 200


async def test_money_is_counted_by_the_releases_price_and_is_an_insufficient_quota(
    engine: StartEngine, serve: Serve
) -> None:
    price = Price(input_per_million=100.0, output_per_million=1000.0)
    one = await engine()
    cost = price.cost(USAGE["prompt_tokens"], USAGE["completion_tokens"])
    rig = await serve(
        limited(snapshot(route(A, one, price=price)), NO_QUOTA, tenant=Quota(usd_per_month=0.05))
    )
    limit = "tenant:acme:usd_per_month"
    async with rig.client() as client:
        asked = {**CHAT, "max_tokens": 20}
        assert (await client.post(PATH, json=asked)).status_code == 200
        assert used(rig, limit) == cost
        refused = await client.post(PATH, json={**CHAT, "max_tokens": 48})
        assert error_of(refused) == (429, "insufficient_quota")
        message = refused.json()["error"]["message"]
        assert "0.05 USD per month of the tenant `acme`" in message
        assert (await client.post(PATH, json=asked)).status_code == 200
        assert used(rig, limit) == 2 * cost


async def test_a_client_that_leaves_pays_for_what_was_streamed(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(streams(*"abcdefgh" * 20, gap=0.05))
    rig = await serve(limited(snapshot(route(A, one)), Quota(tokens_per_day=100_000)))
    async with rig.client() as client:
        async with client.stream("POST", PATH, json=STREAM) as answer:
            async for _ in answer.aiter_bytes():
                break
        await until(lambda: len(rig.requests()) == 1)
    assert rig.requests()[0].status == 499
    assert 1 <= used(rig, DAY) < 200


class Lender(Control):
    """Control that answers reports with grants."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[QuotaReport] = []
        self.held = 0

    async def _sync(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        question = msgspec.json.decode(asked.body, type=SyncRequest)
        report = question.quota
        use = report.uses[0] if report is not None and report.uses else None
        if report is None or use is None or use.held == self.held:
            await super()._sync(asked, writer)
            return
        self.reports.append(report)
        body = msgspec.json.encode(Grants((Grant(use.limit, use.start, self.held, 100),)))
        writer.write(head(200, GRANTS_TYPE.decode(), content_length=len(body)) + body)
        await writer.drain()


async def test_a_worker_of_several_asks_for_more_and_gets_it(
    engine: StartEngine, tmp_path: Path
) -> None:
    control = Lender()
    await control.engine.start()
    control.held = 50
    rig = Rig(tmp_path, control.engine.url)
    kept = limited(snapshot(route(A, await engine())), Quota(requests_per_minute=100), workers=50)
    async with running(rig, kept), rig.client() as client:
        codes = [(await client.post(PATH, json=CHAT)).status_code]
        limit = "key:k1:requests_per_minute"
        assert rig.worker is not None
        meter = rig.worker._quotas.meters[limit]
        await until(lambda: meter.window.held == 50)
        codes += [(await client.post(PATH, json=CHAT)).status_code for _ in range(50)]
    assert codes == [200] * 50 + [429]
    assert control.reports[0].uses[0].need == 1
    rig.socket.close()
    await control.engine.stop()


async def test_a_worker_that_is_started_again_without_control_goes_on_with_its_use(
    engine: StartEngine, tmp_path: Path, control: Control
) -> None:
    kept = limited(snapshot(route(A, await engine())), Quota(tokens_per_day=1000))
    await control.engine.kill()
    counts = []
    for boot in ("boot-0", "boot-1"):
        rig = Rig(tmp_path, control.engine.url, boot=boot)
        async with running(rig, kept), rig.client() as client:
            assert (await client.post(PATH, json={**CHAT, "max_tokens": 9})).status_code == 200
            counts.append(used(rig, DAY))
        rig.socket.close()
    assert counts == [TOKENS, 2 * TOKENS]


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 9999, b'{"seat":1}', b"\xff"])
async def test_a_damaged_file_of_use_is_said_so_and_is_no_obstacle(
    engine: StartEngine, rig: Rig, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    Path(f"{rig.settings.snapshot_path}.quota-0").write_bytes(data)
    await rig.start(limited(snapshot(route(A, await engine())), Quota(tokens_per_day=1000)))
    async with rig.client() as client:
        assert (await client.post(PATH, json={**CHAT, "max_tokens": 9})).status_code == 200
    assert "cannot be read" in caplog.text


async def test_a_new_snapshot_changes_the_limits_and_keeps_the_use(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    one = await engine(answers("hi", body=completion("hi")))
    first = limited(snapshot(route(A, one), version=3), Quota(requests_per_minute=1))
    rig = await serve(first)
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        assert (await client.post(PATH, json=CHAT)).status_code == 429
        newer = limited(snapshot(route(A, one), version=4), Quota(requests_per_minute=2))
        assert encode_snapshot(newer) != encode_snapshot(first)
        control.publish(newer)
        await until(lambda: control.questions[-1].version == 4)
        got = [(await client.post(PATH, json=CHAT)).status_code for _ in range(2)]
    assert got == [200, 429]
