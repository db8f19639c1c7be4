"""Keys that are used with a running gateway are written nowhere: every byte is searched."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.domain.api_keys import api_key_digest
from standalone.running_gateway import RunningGateway, SmallEngine, running
from support.canaries import bytes_below, hits, processes
from support.installation import descendants

KEY = "fl-canary-1c9f40aa7be2"
WRONG = "fl-wrong-canary-92be11"
PROVIDER = "sk-provider-canary-55d0"
FILED = "sk-filed-canary-8812ef"
SECRETS = (KEY, KEY[:-1], WRONG, PROVIDER, FILED)


@pytest.fixture
def engine() -> Iterator[SmallEngine]:
    made = SmallEngine("one")
    yield made
    made.close()


def ask(url: str, key: str, path: str = "/v1/chat/completions", body: object = None) -> bytes:
    """Head and body of the answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(
        f"{url}{path}", data, {"authorization": f"Bearer {key}", "content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(answer.headers).encode() + answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers).encode() + error.read()


def use(gateway: RunningGateway) -> dict[str, bytes]:
    """Served, refused and broken requests; what came back."""
    chat = {"model": "bank", "messages": [{"role": "user", "content": "hello"}]}
    seen: dict[str, bytes] = {}
    for number, (key, body) in enumerate(
        [
            (KEY, chat),
            (KEY, {**chat, "stream": True}),
            (KEY, {"model": "none"}),
            (KEY, {"model": 1}),
            (KEY, {**chat, "model": "filed"}),
            (WRONG, chat),
            (KEY[:-1], chat),
            (KEY + "x", chat),
        ]
    ):
        seen[f"answer {number}"] = ask(gateway.url, key, body=body)
    seen["models"] = ask(gateway.url, KEY, "/v1/models")
    seen["metrics"] = ask(gateway.url, KEY, "/metrics")
    return seen


def test_no_key_is_found_on_disk_in_the_output_in_metrics_or_in_a_command_line(
    engine: SmallEngine, tmp_path: Path
) -> None:
    outside = tmp_path / "secret" / "provider.key"
    outside.parent.mkdir()
    outside.write_text(FILED)
    outside.chmod(0o600)
    folder = tmp_path / "gateway"
    folder.mkdir()
    config = folder / "gateway.yaml"
    config.write_text(
        f"listen: 127.0.0.1:0\nspool: records\n"
        f"keys: [{{name: canary, sha256: {api_key_digest(KEY)}}}]\n"
        "services:\n"
        f"- {{name: bank, releases: [{{name: main, url: '{engine.url}', "
        "model: m, api_key_env: PROVIDER_KEY}]}\n"
        f"- {{name: filed, releases: [{{name: main, url: '{engine.url}', "
        f"model: m, api_key_file: {outside}}}]}}\n"
    )
    with running(config, PROVIDER_KEY=PROVIDER) as gateway:
        places = use(gateway)
        gateway.reload()
        gateway.says("reloaded")
        places |= {f"again, {name}": data for name, data in use(gateway).items()}
        pids = [gateway.process.pid, *descendants(gateway.process.pid)]
        places |= processes(pids)
        # While it runs: the snapshot and the workers' metrics are there, too.
        places |= bytes_below(folder)
        assert any(place.endswith("snapshot.json") for place in places)
        assert gateway.stop() == 0
    places |= bytes_below(folder)
    assert any(place.endswith(".seg") for place in places)
    # It was in use: the engine has got the providers' keys, and the client its answers.
    assert {f"Bearer {PROVIDER}", f"Bearer {FILED}"} <= set(engine.authorizations)
    assert b"chat.completion" in places["answer 0"]
    assert hits(SECRETS, places) == []
    # And the search finds what is there.
    (folder / "planted").write_text(f"a log line with {KEY} in it")
    assert hits(SECRETS, bytes_below(folder)) == [
        (KEY, str(folder / "planted")),
        (KEY[:-1], str(folder / "planted")),
    ]
