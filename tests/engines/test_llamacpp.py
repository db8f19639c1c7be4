"""The llama.cpp server process, with a real engine and a tiny model."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fairlead.engines.llamacpp.__main__ import DRAIN_S

pytestmark = pytest.mark.live

Start = Callable[..., Any]
Write = Callable[..., Path]
Connect = Callable[[str], http.client.HTTPConnection]
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
LONG = {"prompt": "hello", "max_tokens": 20_000, "ignore_eos": True}


def ask(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any] | None = None
) -> tuple[int, bytes, str]:
    """Status, body and `connection` header."""
    if body is None:
        connection.request("GET", path)
    else:
        text = json.dumps(body)
        connection.request("POST", path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read(), (answer.getheader("connection") or "").lower()


def busy_slots(base_url: str) -> int:
    """Requests in work, asked on a connection of its own."""
    with closing(http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=20)) as one:
        text = ask(one, "/metrics")[1].decode()
    found = re.search(r"^llamacpp:requests_processing (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def wait_until_busy(base_url: str) -> None:
    """Until a request is in work."""
    end = time.monotonic() + 20
    while not busy_slots(base_url):
        assert time.monotonic() < end
        time.sleep(0.02)


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


@pytest.fixture
def served(run_llama: Start, write_model: Write) -> tuple[Any, str]:
    running = run_llama(write_model(), context=512, slots=4)
    return running, running.wait_ready()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections that are closed when the test ends."""
    made: list[http.client.HTTPConnection] = []

    def make(base_url: str) -> http.client.HTTPConnection:
        made.append(http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=20))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def test_it_answers_as_the_openai_api_does(connect: Connect, served: tuple[Any, str]) -> None:
    connection = connect(served[1])
    status, body, _ = ask(connection, "/v1/chat/completions", CHAT)
    answer = json.loads(body)
    assert (status, answer["model"], answer["object"]) == (200, "tiny", "chat.completion")
    assert answer["usage"]["completion_tokens"] == 3
    status, body, _ = ask(connection, "/v1/completions", {"prompt": "hello", "max_tokens": 2})
    assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 2)
    assert ask(connection, "/v1/models")[0] == 200


def test_a_stream_ends_with_the_usage_and_done(connect: Connect, served: tuple[Any, str]) -> None:
    connection = connect(served[1])
    options = {"stream": True, "stream_options": {"include_usage": True}}
    status, body, _ = ask(connection, "/v1/chat/completions", {**CHAT, **options})
    events = [line[6:] for line in body.decode().split("\n\n") if line.startswith("data: ")]
    assert (status, events[-1]) == (200, "[DONE]")
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 3


def test_embeddings_are_served_when_the_settings_say_so(
    connect: Connect, run_llama: Start, write_model: Write
) -> None:
    running = run_llama(write_model(), context=512, embeddings=True, pooling="mean")
    connection = connect(running.wait_ready())
    status, body, _ = ask(connection, "/v1/embeddings", {"input": "hello"})
    assert (status, len(json.loads(body)["data"][0]["embedding"])) == (200, 64)


def test_a_chat_template_of_the_release_takes_the_place_of_the_models_own(
    connect: Connect, run_llama: Start, write_model: Write
) -> None:
    running = run_llama(write_model(), context=512, chat_template="just {{ bos_token }}this")
    connection = connect(running.wait_ready())
    status, body, _ = ask(connection, "/apply-template", CHAT)
    assert status == 200
    assert "just" in json.loads(body)["prompt"]
    assert "hello" not in json.loads(body)["prompt"]


def test_it_listens_on_loopback_alone(served: tuple[Any, str]) -> None:
    port = urlsplit(served[1]).port
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_page_of_a_browser_is_not_allowed_to_read_and_slots_show_no_prompts(
    connect: Connect,
    served: tuple[Any, str],
) -> None:
    connection = connect(served[1])
    connection.request("GET", "/v1/models", headers={"Origin": "http://elsewhere.example"})
    answer = connection.getresponse()
    answer.read()
    assert not answer.getheader("access-control-allow-origin")
    assert ask(connection, "/slots")[0] == 501


def test_it_stays_small_under_load(connect: Connect, served: tuple[Any, str]) -> None:
    running, base_url = served

    def work() -> None:
        connection = connect(base_url)
        for _ in range(20):
            assert ask(connection, "/v1/chat/completions", CHAT)[0] == 200

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert resident_mb(running.process.pid) < 80


def test_a_connection_serves_a_hundred_requests_and_says_which_is_the_last(
    connect: Connect,
    served: tuple[Any, str],
) -> None:
    connection = connect(served[1])
    closes = [ask(connection, "/health")[2] == "close" for _ in range(100)]
    assert closes == [False] * 99 + [True]


def test_a_hundred_idle_connections_keep_nobody_waiting(
    connect: Connect, served: tuple[Any, str]
) -> None:
    open_ones = [connect(served[1]) for _ in range(100)]
    for connection in open_ones:
        connection.connect()
    before = time.monotonic()
    assert ask(open_ones[-1], "/health")[0] == 200
    assert time.monotonic() - before < 4, "behind an idle connection it would wait for 5 s"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_slot(
    connect: Connect, run_llama: Start, write_model: Write, stream: bool
) -> None:
    base_url = run_llama(write_model(40_000), context=40_000, slots=1).wait_ready()
    connection = connect(base_url)
    connection.request(
        "POST", "/v1/completions", json.dumps({**LONG, "stream": stream}),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    wait_until_busy(base_url)
    connection.close()
    end = time.monotonic() + 30
    # Asking oftener than once a second would itself keep a plain request from being cancelled.
    while busy_slots(base_url):
        assert time.monotonic() < end
        time.sleep(0.1 if stream else 1.6)


def test_sigterm_lets_open_requests_end_and_exits_with_zero(
    connect: Connect, run_llama: Start, write_model: Write
) -> None:
    running = run_llama(write_model(40_000), context=40_000, slots=1)
    base_url = running.wait_ready()
    connection = connect(base_url)
    body = {**LONG, "max_tokens": 1000}
    connection.request("POST", "/v1/completions", json.dumps(body))
    wait_until_busy(base_url)
    running.process.send_signal(signal.SIGTERM)
    answer = connection.getresponse()
    assert json.loads(answer.read())["usage"]["completion_tokens"] == 1000
    assert running.process.wait(10) == 0


def test_sigterm_ends_an_idle_replica_at_once(served: tuple[Any, str]) -> None:
    """Not only when the time that open requests would have is over."""
    served[0].process.send_signal(signal.SIGTERM)
    assert served[0].process.wait(0.8 * DRAIN_S) == 0


def test_it_ends_with_its_supervisor(run_llama: Start, write_model: Write) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as supervisor:
        running = run_llama(write_model(), context=512, parent=supervisor.pid)
        running.wait_ready()
        supervisor.kill()
    assert running.process.wait(10) == 3 or running.process.returncode == 0
    assert "is gone" in running.log.read_text()


def test_it_does_not_start_for_a_supervisor_that_is_gone(
    run_llama: Start, write_model: Write
) -> None:
    with subprocess.Popen(["true"]) as supervisor:
        pass
    running = run_llama(write_model(), parent=supervisor.pid)
    assert running.process.wait(30) == 3
    assert not running.ready.exists()


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        (b"import os", {}, "invalid magic characters"),
        (None, {}, "cannot start"),
        (b"GGUF", {"contxt": 1}, "unknown setting `contxt`"),
    ],
)
def test_a_start_that_cannot_work_says_why_and_exits_with_one(
    run_llama: Start,
    tmp_path: Path,
    content: bytes | None,
    settings: dict[str, int],
    said: str,
) -> None:
    model = tmp_path / "model.gguf"
    if content is not None:
        model.write_bytes(content)
    running = run_llama(model, **settings)
    assert running.process.wait(30) == 1
    assert said in running.log.read_text()
    assert "Traceback" not in running.log.read_text()
