"""Replicas are killed in the middle of streams, and clients read what they would have read."""

from __future__ import annotations

import os
import random
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from fairlead.cli.shipping import prepare
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.manifest import load_manifest
from fairlead.registry import Registry
from support.installation import Installation
from support.models import speller

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]

REPLICAS = 3
TOKENS = 800
KILLS, ROUNDS_MAX = 4, 15
MANIFEST = """
service: speller
release:
  name: s
  model: speller.gguf
  engine: {kind: llama.cpp, settings: {context: 8192, slots: 2, threads: 1}}
replicas: {champion: 3, canary: 1}
limits: {queue_timeout_seconds: 60, request_timeout_seconds: 120}
"""
GREEDY: dict[str, Any] = {
    "temperature": 0,
    "max_tokens": TOKENS,
    "stream": True,
    "stream_options": {"include_usage": True},
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture
def spelling(tmp_path: Path, installation: Installation) -> Installation:
    """An installation whose service spells without end."""
    folder = tmp_path / "service"
    folder.mkdir()
    speller(folder / "speller.gguf")
    (folder / "fairlead.yaml").write_text(MANIFEST)
    spec = prepare(Registry(installation.paths.registry), load_manifest(folder / "fairlead.yaml"))
    assert installation.finish(installation.ship(spec).id).outcome == "promoted"
    return installation


def ready(installation: Installation) -> list[ReplicaStatus]:
    replicas = installation.status().replicas
    return [r for r in replicas if r.state is ReplicaState.READY]


def serving(replicas: list[ReplicaStatus]) -> list[int]:
    """Process ids of those replicas that generate now."""
    busy = []
    for replica in replicas:
        try:
            with urllib.request.urlopen(f"{replica.base_url}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            continue
        if "llamacpp:requests_processing 1" in lines:
            busy.append(replica.pid)
    return busy


class Client:
    """Reads streams by the openai package."""

    def __init__(self, installation: Installation) -> None:
        host, port = installation.gateway
        self._client = openai.OpenAI(
            base_url=f"http://{host}:{port}/v1",
            api_key=installation.key,
            max_retries=0,
            timeout=120,
        )

    def chat(self, text: str) -> Iterator[Any]:
        messages: Any = [{"role": "user", "content": text}]
        yield from self._client.chat.completions.create(
            model="speller", messages=messages, **GREEDY
        )

    def completion(self, text: str) -> Iterator[Any]:
        yield from self._client.completions.create(model="speller", prompt=text, **GREEDY)


def text_of(event: Any) -> str:
    choice = event.choices[0]
    return (choice.delta.content if hasattr(choice, "delta") else choice.text) or ""


def summary(events: list[Any]) -> dict[str, Any]:
    """What of a stream has to be the same, however often it broke."""
    choices = [event.choices[0] for event in events if event.choices]
    usage = [event.usage for event in events if event.usage is not None]
    assert len({(e.id, e.model, e.object) for e in events}) == 1
    assert len(usage) == 1
    return {
        "text": "".join(text_of(event) for event in events if event.choices),
        "roles": sum(bool(getattr(getattr(c, "delta", None), "role", None)) for c in choices),
        "finish": [c.finish_reason for c in choices if c.finish_reason],
        "tokens": (usage[0].prompt_tokens, usage[0].completion_tokens),
    }


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_streams_whose_replicas_are_killed_read_as_if_undisturbed(
    spelling: Installation, kind: str
) -> None:
    dice = random.Random(7)
    stream = getattr(Client(spelling), kind)
    kills = number = 0
    # Where the client is slow, all is said by the time that it has read so far: another round then.
    while kills < KILLS and number < ROUNDS_MAX:
        spelling.wait(lambda: len(ready(spelling)) == REPLICAS, "all replicas", 60)
        question = f"how do i top up my card {'please ' * number}"
        number += 1
        undisturbed = summary(list(stream(question)))
        assert undisturbed["finish"] == ["length"]
        assert undisturbed["tokens"][1] == TOKENS
        # What the engine has said is ahead of what was read: the last moments would come too late.
        moments = [dice.randrange(5, TOKENS // 4), dice.randrange(TOKENS // 4, TOKENS // 2)]
        replicas = ready(spelling)
        events = []
        for event in stream(question):
            events.append(event)
            if len(events) in moments:
                for pid in serving(replicas):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        assert summary(events) == undisturbed, moments
    assert kills >= KILLS
