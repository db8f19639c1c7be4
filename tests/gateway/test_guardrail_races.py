"""What else happens to a request while a guardrail looks at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Engine,
    Rig,
    answers,
    chunk,
    error_of,
    event,
    head,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.guarding import Guarding
from fairlead.gateway.guardrails.turns import Step, Turns
from fairlead.gateway.requests.hedging import Hedge
from fairlead.wire.snapshot import Limits, ServiceRoute, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
SECRET = "project swordfish"
NO_SECRETS = Guardrail("secrets", "prompt", "block", phrases=(SECRET,))
NO_LEAKS = Guardrail("leaks", "answer", "block", phrases=(SECRET,))
LONG = "so it is. " * 2_000


async def test_no_second_replica_is_asked_a_prompt_that_is_still_looked_at(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hedge was begun on a replica that was not there; a fallback has guardrails."""
    looks: list[Step] = []
    was_looked_at: list[bool] = []
    begin = Hedge._begin

    def begins(hedge: Hedge) -> None:
        was_looked_at.append(bool(looks))
        begin(hedge)

    monkeypatch.setattr(Turns, "add", lambda _, key, step: looks.append(step))
    monkeypatch.setattr(Hedge, "_begin", begins)
    one, two = await engine(answers("hi")), await engine(answers("hi"))
    limits = Limits(queue_timeout_s=0.2, hedge_after_ms=600)
    own = snapshot(route(A, "http://127.0.0.1:1"), limits=limits)
    bank = msgspec.structs.replace(own.services["bank"], fallbacks=("spare",))
    spare = ServiceRoute("spare", {B: route(B, one, two, guardrails=(NO_SECRETS,))}, champion=B)
    rig = await serve(msgspec.structs.replace(own, services={"bank": bank, "spare": spare}))
    async with rig.client() as client:
        asked = {"model": "bank", "input": LONG + SECRET}
        asking = asyncio.ensure_future(client.post("/v1/embeddings", json=asked))
        await until(lambda: bool(was_looked_at))
        await asyncio.sleep(0.1)  # in which another replica would have been asked
        [look] = looks
        while look():
            pass
        answer = await asking
    assert was_looked_at == [True]
    assert error_of(answer) == (400, "guardrail")
    assert not one.asked
    assert not two.asked


async def test_a_break_that_is_told_twice_while_an_answer_is_looked_at_counts_once(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine reports that it failed, and then breaks off: another replica goes on, once."""
    told: list[bool] = []
    holds = Guarding.holds

    def held(guarding: Guarding, event: Callable[[], None]) -> bool:
        told.append(guarding.is_looking)
        return holds(guarding, event)

    monkeypatch.setattr(Guarding, "holds", held)
    asked_for_text: list[str] = []

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/tokenize":
            body = b'{"tokens": [1]}'
            writer.write(head(200, content_length=len(body)) + body)
            return
        asked_for_text.append(asked.path)
        if len(asked_for_text) > 1:
            await streams(" And so on.")(asked, writer)
            return
        report = {"error": {"message": "it failed", "type": "server_error", "code": 500}}
        begun = chunk(event(LONG)) + chunk(b"data: %b\n\n" % json.dumps(report).encode())
        # In one piece, so that all of it is there before the first part was looked at.
        kind = "text/event-stream"
        writer.write(head(200, kind, transfer_encoding="chunked") + begun + b"no chunk\r\n")

    one, two = await engine(behave), await engine(behave)
    guarded = route(A, one, two, guardrails=(NO_LEAKS,), continues="llama.cpp")
    rig = await serve(snapshot(guarded))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert told[:2] == [True, True]
    assert text_of(answer.text) == LONG + " And so on."
    assert "[DONE]" in answer.text
    assert len(asked_for_text) == 2
    await until(lambda: bool(rig.requests()))
    [record] = rig.requests()
    assert (record.status, record.error, record.attempts) == (200, "", 2)


def text_of(content: str) -> str:
    said: list[Any] = [
        json.loads(line[6:]) for line in content.splitlines() if line.startswith("data: {")
    ]
    choices = [each["choices"][0] for each in said if each["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
