"""A case is asked as a client's request would be, and what is no answer is said to be none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.outside.ask import ReplicaClient
from fairlead.domain.errors import Unavailable
from fairlead.domain.release import Engine, Prompt, Release, RemoteModel
from fairlead.evaluation.cases import make_case

Start = Callable[..., AnsweringReplica]


def local(**changes: object) -> Release:
    model = RemoteModel("http://127.0.0.1:1/v1", "large")
    return Release(model, Engine("remote"), **changes)  # type: ignore[arg-type]


async def test_prompt_sampling_and_model_of_the_release_are_applied(replica: Start) -> None:
    made = replica(lambda text: text.upper())
    release = local(
        prompt=Prompt(system="be brief", user="[{input}]"), sampling={"temperature": 0, "seed": 1}
    )
    answer = await ReplicaClient(release, lambda: [made.url])(make_case("hi"))
    assert answer.text == "[HI]"
    assert answer.latency_ms > 0
    (body,) = made.bodies
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "[hi]"},
    ]
    assert (body["temperature"], body["seed"], body["model"]) == (0, 1, "large")
    assert body["path"] == "/v1/chat/completions"
    assert "authorization" not in made.headers[0]


async def test_a_conversation_is_sent_as_it_is(replica: Start) -> None:
    made = replica(lambda text: text)
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}]  # fmt: skip
    assert (await ReplicaClient(local(), lambda: [made.url])(make_case(talk))).text == "c"
    assert made.bodies[0]["messages"] == talk


async def test_replicas_are_asked_in_turn_and_those_of_the_moment(replica: Start) -> None:
    one, two = replica(), replica()
    urls = [one.url, two.url]
    client = ReplicaClient(local(), lambda: urls)
    for _ in range(4):
        await client(make_case("say x"))
    assert [sum(r.asked.values()) for r in (one, two)] == [2, 2]
    urls.clear()
    with pytest.raises(Unavailable, match="no replica"):
        await client(make_case("say x"))


async def test_a_provider_s_path_and_key_are_used(
    replica: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replica()
    (tmp_path / "key").write_text(" from-file \n")
    monkeypatch.setenv("PROVIDER_KEY", "from-env")
    for named in ({"api_key_env": "PROVIDER_KEY"}, {"api_key_file": str(tmp_path / "key")}):
        model = RemoteModel("http://x/openai/v1", "m", **named)
        client = ReplicaClient(Release(model, Engine("remote")), lambda: [f"{made.url}/openai/v1/"])
        await client(make_case("say x"))
    assert [h["authorization"] for h in made.headers] == ["Bearer from-env", "Bearer from-file"]
    assert {body["path"] for body in made.bodies} == {"/openai/v1/chat/completions"}


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"api_key_env": "NOT_SET_HERE"}, "NOT_SET_HERE"),
        ({"api_key_file": "/none/key"}, "/none"),
        ({"api_key_env": "FAIRLEAD_API_KEY"}, "must not be one of FAIRLEAD_"),
    ],
)
async def test_a_missing_key_is_named_and_nothing_is_sent(
    replica: Start, named: dict[str, str], told: str
) -> None:
    made = replica()
    release = Release(RemoteModel("http://x/v1", "m", **named), Engine("remote"))
    with pytest.raises(Unavailable, match=told):
        await ReplicaClient(release, lambda: [made.url])(make_case("say x"))
    assert made.bodies == []


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"[1]"]
)
async def test_what_is_no_chat_completion_is_no_answer(replica: Start, raw: bytes) -> None:
    made = replica()
    made.raw = raw
    with pytest.raises(Unavailable, match="not a chat completion"):
        await ReplicaClient(local(), lambda: [made.url])(make_case("say x"))


async def test_an_error_status_or_a_closed_port_is_no_answer(replica: Start) -> None:
    made = replica()
    made.status = 503
    with pytest.raises(Unavailable, match="answered 503"):
        await ReplicaClient(local(), lambda: [made.url])(make_case("say x"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable, match="not reached"):
            await ReplicaClient(local(), lambda: [url])(make_case("say x"))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"error": {"message": "no model \\"x\\"\\n  here"}}', ': no model "x" here'),
        (b'{"error": "no such model"}', ": no such model"),
        (b'{"message": "too long"}', ": too long"),
        (b'{"detail": [{"msg": "bad"}]}', ': [{"msg": "bad"}]'),
        (b"<p>Bad\n gateway</p>\x1b[2J\xff", ": <p>Bad gateway</p> [2J\ufffd"),
        (b'{"error": {"message": "' + b"long " * 2000 + b'"}}', ": " + "long " * 40 + "…"),
        (b'{"error": {"message": "wrong key sk-secret"}}', ": wrong key [key]"),
        (b"[" * 100_000, ": " + "[" * 200 + "…"),
        (b"", ""),
    ],
)  # fmt: skip
async def test_an_error_says_what_the_provider_says_on_one_short_line_without_the_key(
    replica: Start, monkeypatch: pytest.MonkeyPatch, raw: bytes, told: str
) -> None:
    made = replica()
    made.status, made.raw = 400, raw
    monkeypatch.setenv("PROVIDER_KEY", "sk-secret")
    model = RemoteModel("http://x/v1", "m", api_key_env="PROVIDER_KEY")
    with pytest.raises(Unavailable) as caught:
        await ReplicaClient(Release(model, Engine("remote")), lambda: [made.url])(make_case("x"))
    assert caught.value.message == f"replica {made.url[7:]} answered 400{told}"


async def test_a_replica_that_does_not_answer_is_given_up(replica: Start) -> None:
    made = replica(lambda text: text, 0)
    client = ReplicaClient(local(), lambda: [made.url], timeout_s=0.1)
    with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
        await client(make_case("say x"))
