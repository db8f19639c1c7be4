"""Copies of requests and guardrails: what is copied, what of it is sent, what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    B,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    event,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.turns import Step, Turns
from fairlead.gateway.limits import PLAIN_BUFFER_BYTES
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ReleaseRoute, Shadow, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
STREAM = {**CHAT, "stream": True}
SECRET = "project swordfish"
NO_SECRETS = Guardrail("secrets", "prompt", "block", phrases=(SECRET,))
SEES_SECRETS = Guardrail("secrets", "prompt", "flag", phrases=(SECRET,))
NO_LEAKS = Guardrail("leaks", "answer", "block", phrases=(SECRET,))
SEES_LEAKS = Guardrail("leaks", "answer", "flag", phrases=(SECRET,))
LONG = "so it is. " * 3_000


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "bank", "messages": [{"role": "user", "content": text}], **more}


def mirrored(
    champion: ReleaseRoute, trial: ReleaseRoute, *, timeout_s: float = 0.0, **more: Any
) -> Snapshot:
    base = snapshot(champion)
    service = msgspec.structs.replace(
        base.services["bank"],
        releases={champion.digest: champion, trial.digest: trial},
        shadow=Shadow(trial.digest, 1.0, timeout_s=timeout_s),
        **more,
    )
    return msgspec.structs.replace(base, services={"bank": service})


def outcomes(rig: Rig) -> dict[str, int]:
    assert rig.worker is not None
    state = rig.worker.plant.metrics.shadows.state()
    return {labels[2]: int(values[0]) for labels, values in state.series}


async def recorded(rig: Rig, count: int = 1) -> tuple[list[RequestRecord], list[RequestRecord]]:
    """Live requests and copies, when so many copies are recorded."""

    def of(arm: str) -> list[RequestRecord]:
        return [record for record in rig.requests() if record.arm == arm]

    await until(lambda: len(of("shadow")) >= count)
    return of("champion"), of("shadow")


async def test_a_prompt_that_its_release_blocks_is_not_copied(
    engine: StartEngine, serve: Serve
) -> None:
    """The release on trial would let it pass, and has not been asked."""
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    rig = await serve(mirrored(route(A, live, guardrails=(NO_SECRETS,)), route(B, trial)))
    async with rig.client() as client:
        blocked = await client.post(PATH, json=asks(SECRET))
        long = await client.post(PATH, json=asks(LONG + SECRET))
        fine = await client.post(PATH, json=asks("hello"))
    assert error_of(blocked) == error_of(long) == (400, "guardrail")
    assert fine.status_code == 200
    _, [copy] = await recorded(rig)
    assert (copy.guardrail_hits, copy.guardrails, copy.blocked_by) == (0, "", "")
    assert len(trial.asked) == 1
    assert outcomes(rig) == {"answered": 1}


@pytest.mark.parametrize("text", [SECRET, LONG + SECRET])
async def test_a_prompt_that_the_release_on_trial_blocks_is_not_sent_to_it(
    engine: StartEngine, serve: Serve, text: str
) -> None:
    """Its client has the answer of its own release all the same."""
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=(NO_SECRETS,))))
    async with rig.client() as client:
        answer = await client.post(PATH, json=asks(text))
        [request], [copy] = await recorded(rig)
        page = (await client.get("/metrics")).text
    assert answer.content == completion("live")
    assert (request.status, request.error, request.guardrail_hits) == (200, "", 0)
    assert (copy.guardrail_hits, copy.guardrails, copy.blocked_by) == (1, "secrets", "secrets")
    assert (copy.status, copy.error, copy.release) == (400, "guardrail", B)
    assert (copy.replica, copy.attempts) == ("", 0)
    assert not trial.asked
    assert outcomes(rig) == {"blocked": 1}
    hits = 'guardrail_hits_total{service="bank",release="bbbbbbbbbbbb",guardrail="secrets"'
    assert f'fairlead_gateway_shadow_{hits},blocked="true"}} 1' in page
    assert f"fairlead_gateway_{hits}" not in page


async def test_what_the_release_on_trial_flags_is_in_its_record_alone(
    engine: StartEngine, serve: Serve
) -> None:
    live = await engine(answers("live"))
    trial = await engine(answers(f"well, {SECRET}"))
    own = (SEES_SECRETS, SEES_LEAKS)
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=own)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=asks(SECRET))
    assert answer.content == completion("live")
    [request], [copy] = await recorded(rig)
    assert (request.guardrail_hits, request.guardrails) == (0, "")
    assert (copy.guardrail_hits, copy.guardrails, copy.blocked_by) == (2, "secrets,leaks", "")
    assert (copy.status, copy.error, copy.attempts) == (200, "", 1)
    assert outcomes(rig) == {"answered": 1}


@pytest.mark.parametrize("text", [SECRET, LONG + SECRET])
async def test_an_answer_of_the_release_on_trial_is_withheld_as_it_would_be(
    engine: StartEngine, serve: Serve, text: str
) -> None:
    """So it counts as a refusal where refusals are looked for."""
    live, trial = await engine(answers("live")), await engine(answers(text))
    rig = await serve(
        mirrored(route(A, live), route(B, trial, guardrails=(NO_LEAKS,)), facts=("refusal",))
    )
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).content == completion("live")
    _, [copy] = await recorded(rig)
    assert (copy.status, copy.error, copy.refused) == (200, "", 1)
    assert (copy.guardrails, copy.blocked_by, copy.completion_tokens) == ("leaks", "leaks", 3)
    assert outcomes(rig) == {"blocked": 1}


async def test_a_stream_of_the_release_on_trial_is_ended_as_it_would_be(
    engine: StartEngine, serve: Serve
) -> None:
    """No more of it is made."""
    live = await engine(streams("a", "b"))
    parts = ["It is ", LONG, " pro", "ject sword", "fish", *["and on"] * 100]
    trial = await engine(streams(*parts, gap=0.01))
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post(PATH, json=STREAM)
    assert event("b") in answer.content
    _, [copy] = await recorded(rig)
    assert (copy.status, copy.error, copy.blocked_by) == (200, "guardrail", "leaks")
    await until(lambda: trial.hung_up == 1)
    assert outcomes(rig) == {"blocked": 1}


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_long_answers_of_the_release_on_trial_are_looked_at_to_their_end(
    engine: StartEngine, serve: Serve, body: dict[str, Any]
) -> None:
    live, trial = await engine(), await engine()
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=(SEES_LEAKS,))))
    is_stream = body is STREAM
    async with rig.client() as client:
        for end, hits in (("", 0), (SECRET, 1)):
            live.behave = streams("live") if is_stream else answers("live")
            said = ("so ", LONG + end, " it was")
            trial.behave = streams(*said) if is_stream else answers("".join(said))
            assert (await client.post(PATH, json=body)).status_code == 200
            _, copies = await recorded(rig, 1 + hits)
            assert (copies[-1].guardrail_hits, copies[-1].error) == (hits, "")
            assert copies[-1].completion_tokens == 3


async def test_an_answer_too_large_to_be_held_is_a_hit_of_a_copy_too(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(answers("live")), await engine()
    trial.behave = answers(body=completion("x" * (PLAIN_BUFFER_BYTES + 1)))
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
    _, [copy] = await recorded(rig)
    assert (copy.status, copy.blocked_by) == (200, "leaks")


async def test_where_no_release_has_guardrails_a_copys_record_says_so(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
    _, [copy] = await recorded(rig)
    assert copy.guardrail_hits == -1


async def test_looks_at_copies_never_come_before_those_that_clients_wait_for(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live texts wait in one lane, copies in the other."""
    lanes: list[str] = []
    add, add_spare = Turns.add, Turns.add_spare

    def live_waits(turns: Turns, key: str, step: Step) -> None:
        lanes.append("live")
        add(turns, key, step)

    def copy_waits(turns: Turns, key: str, step: Step) -> None:
        lanes.append("copy")
        add_spare(turns, key, step)

    monkeypatch.setattr(Turns, "add", live_waits)
    monkeypatch.setattr(Turns, "add_spare", copy_waits)
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    own = (NO_SECRETS,)
    rig = await serve(mirrored(route(A, live, guardrails=own), route(B, trial, guardrails=own)))
    async with rig.client() as client:
        await client.post(PATH, json=asks(LONG))
    await recorded(rig)
    assert lanes == ["live", "copy"]


async def test_a_copy_that_is_still_looked_at_when_its_time_is_up_is_no_failure_of_its_release(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up within its time: nobody knows what would have come of it."""
    looks: list[Step] = []
    monkeypatch.setattr(Turns, "add_spare", lambda _, key, step: looks.append(step))
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    guarded = route(B, trial, slots=1, guardrails=(NO_SECRETS,))
    rig = await serve(mirrored(route(A, live), guarded, timeout_s=0.3))
    async with rig.client() as client:
        await client.post(PATH, json=asks(LONG))
        _, [copy] = await recorded(rig)
        assert (copy.status, copy.error, copy.attempts) == (499, "shadow_ended", 0)
        assert 200 < copy.duration_ms < 300
        assert not looks[0]()
        assert not trial.asked
        await client.post(PATH, json=asks("hello"))
        _, [_, second] = await recorded(rig, 2)
    assert (second.status, second.error) == (200, ""), "its slot is free again"
    assert outcomes(rig) == {"ended": 1, "answered": 1}


async def test_a_copy_is_not_sent_when_its_shadow_ends_while_it_is_looked_at(
    engine: StartEngine, serve: Serve, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Step] = []
    monkeypatch.setattr(Turns, "add_spare", lambda _, key, step: looks.append(step))
    live, trial = await engine(answers("live")), await engine(answers("trial"))
    rig = await serve(mirrored(route(A, live), route(B, trial, guardrails=(NO_SECRETS,))))
    async with rig.client() as client:
        await client.post(PATH, json=asks(LONG))
        control.publish(snapshot(route(A, live), version=2))
        _, [copy] = await recorded(rig)
    assert copy.error == "shadow_ended"
    assert not looks[0]()
    await asyncio.sleep(0.05)
    assert not trial.asked
