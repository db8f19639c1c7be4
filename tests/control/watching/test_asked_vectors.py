"""Drift by a declared embedding model: asked over HTTP, waited for, and told where it is away."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

from control.watching_world import Outbox, Platform
from fairlead.control.judging.asking import Seat
from fairlead.control.watching.asked_vectors import VectorsAsker
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.looking import duties_of
from fairlead.control.watching.monitors import MonitorMaker
from fairlead.control.watching.platform import _embedding_release
from fairlead.control.watching.release_monitors import ReleaseMonitors
from fairlead.control.watching.served import Served
from fairlead.control.watching.watching import Watching
from fairlead.domain.capture import Capture
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.domain.release import RemoteModel
from fairlead.embedding.asked import REST_S
from fairlead.embedding.hashed import HashedNgrams
from fairlead.monitoring.declared import Declared, check_declared
from fairlead.monitoring.embedding_model import EmbeddingModel
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.made_texts import changed_texts, made_text, usual_texts
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.keys import KeyRow
from fairlead.store.rows import RequestRow, SampleRow, SpoolCursor

TEXTS = TextSettings(drift_texts=1_000, texts_per_false_alarm=1e4)
OFF = MonitorSettings(off=("answer_drift", "language", "injection", "repetition"))


class NoKeys:
    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        return []


class Server:
    """`/v1/embeddings`, by spelling; answers in another order than asked."""

    def __init__(self) -> None:
        self.status = 200
        self.refuses = ""
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        handler = type("Handler", (_Handler,), {"server_": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> bytes:
        assert path == "/v1/embeddings"
        self.bodies.append(body)
        self.headers.append(headers)
        self.asked += body["input"]
        rows = HashedNgrams(32).embed(body["input"]).tolist()
        data = [{"index": place, "embedding": row} for place, row in enumerate(rows)]
        return json.dumps({"data": data[::-1], "usage": {"prompt_tokens": 7}}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server_.status
        if self.server_.refuses and any(self.server_.refuses in text for text in body["input"]):
            status = 500
        data = self.server_.take(self.path, headers, body) if status == 200 else b"no"
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        with contextlib.suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(f"sqlite:///{tmp_path}/store.db")
    made.open_spool("boot")
    yield made
    made.close()


def served(model: EmbeddingModel, release: str = "sha256:e1") -> Served:
    declared = Declared(texts=TEXTS, monitors=OFF, embeddings=model)
    return Served(
        "bank", "sha256:a", declared, capture=Capture(1.0, per_minute=6_000),
        embedding_release=release,
    )  # fmt: skip


def test_a_provider_is_asked_as_the_api_has_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", "secret")
    remote = RemoteModel(server.url, "small", "MODEL_KEY")
    ask = VectorsAsker(EmbeddingModel(provider=remote), lambda _: pytest.fail("no service"))
    rows = ask(["where is my card", "another"])
    assert rows == HashedNgrams(32).embed(["where is my card", "another"]).tolist()
    assert server.bodies == [{"model": "small", "input": ["where is my card", "another"]}]
    assert server.headers[0]["authorization"] == "Bearer secret"
    server.status = 429
    with pytest.raises(Unavailable, match="answered 429"):
        ask(["one"])
    monkeypatch.delenv("MODEL_KEY")
    with pytest.raises(Unavailable, match="MODEL_KEY is not set"):
        ask(["one"])


def test_a_service_s_replicas_are_asked_by_turns_and_none_is_said() -> None:
    one, other = Server(), Server()
    seats = [Seat((one.url, other.url), "judge")]
    ask = VectorsAsker(EmbeddingModel(service="small"), lambda name: {"small": seats[0]}[name])
    for _ in range(4):
        ask(["text"])
    one.close()
    other.close()
    assert len(one.asked) == len(other.asked) == 2
    with pytest.raises(Unavailable, match="small, which makes the vectors, does not answer"):
        ask(["text"])
    maker = MonitorMaker(NoKeys())
    (drift,) = (m for m in maker(served(EmbeddingModel(service="small")), "r") if m.name == "drift")
    for text in usual_texts(1_000):
        drift.see_text(text)
    drift.conditions(1e6)
    assert "no replica of small, which makes the vectors, is ready" in drift.standing()


def test_services_that_declare_the_same_model_share_what_it_has_answered(server: Server) -> None:
    model = EmbeddingModel(provider=RemoteModel(server.url, "small"))
    maker = MonitorMaker(NoKeys())
    drifts = [
        one
        for name in ("bank", "shop")
        for one in maker(served(model)._replace(name=name), "sha256:a")
        if one.name == "drift"
    ]
    for drift in drifts:
        for text in usual_texts(1_000):
            drift.see_text(text)
        drift.conditions(1e6)
        assert drift.standing() == "watching, 0 prompts"
    assert len(server.asked) == len(set(server.asked))


def test_another_release_of_the_model_is_another_one_and_drift_learns_anew(server: Server) -> None:
    """Its vectors may mean something else."""
    model = EmbeddingModel(service="small")
    before, after = served(model), served(model, "sha256:e2")
    assert before.watched_by != after.watched_by
    maker = MonitorMaker(NoKeys(), seat=lambda _: Seat((server.url,), "judge"))
    first = ReleaseMonitors("bank", "sha256:a", lambda: maker(before, "sha256:a"))
    for text in usual_texts(1_000):
        first.see_text(text)
    first.conditions(1e6)
    documents = {key: data for (_, key), data in first.documents().items()}
    kept = {key: data for key, data in documents.items() if key.count("/") == 2}
    again = ReleaseMonitors("bank", "sha256:a", lambda: maker(before, "sha256:a"))
    again.restore(kept, documents)
    assert [one.standing for one in again.standings(0.0) if one.monitor == "drift"] == [
        "watching, 0 prompts"
    ]
    anew = ReleaseMonitors("bank", "sha256:a", lambda: maker(after, "sha256:a"))
    anew.restore(kept, documents)
    assert [one.standing for one in anew.standings(0.0) if one.monitor == "drift"] == [
        "learning, 0 of 1,000 prompts"
    ]
    assert _embedding_release(before.declared, {"small": "sha256:e3"}) == "sha256:e3"
    assert _embedding_release(Declared(), {"small": "sha256:e3"}) == ""


def record(store: Store, prompts: list[str], first: int, at: float) -> None:
    """Requests a tenth of a second apart, with what they asked."""
    rows, samples = [], []
    for place, prompt in enumerate(prompts):
        name, began = f"r{first + place:06d}", at + 0.1 * place
        values = ("", 0, "chat", False, 200, "", began, 5.0, -1.0, 50.0, 10, 5, 1)
        rows.append(
            RequestRow(name, "bank", "sha256:a", "champion", "bank-1", "app", "u", 0.0, *values)
        )
        turns = json.dumps([["user", prompt]])
        samples.append(SampleRow(name, "bank", "app", "u", began, 1e12, turns, "fine", False))
    cursor = SpoolCursor(offset=first + len(rows), complete_until=at + 0.1 * len(rows) + 5.0)
    store.ingest("boot", rows, [], cursor, samples=samples)


async def test_while_the_model_is_away_drift_is_blind_which_is_an_alert_and_then_it_goes_on(
    server: Server, store: Store
) -> None:
    """No text is lost for that: what came meanwhile is looked at when it is back."""
    now = [100_000.0]
    platform = Platform()
    platform.served = [served(EmbeddingModel(provider=RemoteModel(server.url, "small")))]
    maker = MonitorMaker(NoKeys(), now=lambda: now[0], monotonic=lambda: now[0])
    watching = Watching(store, platform, maker, lambda: now[0], Outbox(), monotonic=lambda: now[0])
    await watching.load()

    def alerts() -> list[dict[str, str]]:
        return [one.of for one in watching.desk.alerts.values() if one.is_firing]

    record(store, [text.prompt for text in usual_texts(1_200, "prompt")], 0, now[0])
    now[0] += 130.0
    for _ in range(3):
        await watching.look()
    (drift,) = (one for one in watching.monitors("bank") if one.monitor == "drift")
    assert (drift.standing, drift.vectors.partition("-")[0]) == ("watching, 200 prompts", "model")
    assert alerts() == []
    server.status = 503
    others = [text.prompt for text in changed_texts(320, "prompt", "new_content")]
    record(store, others, 1_200, now[0])
    now[0] += 40.0
    await watching.look()
    await watching.look()
    blind = [one for one in alerts() if one["monitor"] == "monitor_blind"]
    assert [(one["watched"], one["fault"]) for one in blind] == [("drift", "failed")]
    assert not any(one["monitor"] == "drift" for one in alerts())
    server.status = 200
    record(store, [], 1_520, now[0] + 60.0)
    now[0] += 60.0
    await watching.look()
    assert any(one["monitor"] == "drift" for one in alerts())
    assert [one for one in watching.monitors("bank") if one.trouble] == []
    asked = len(server.asked)
    await watching.look()
    assert len(server.asked) == asked, "what it has answered is known"
    await watching.close()


def test_texts_that_wait_are_bounded_and_are_kept(server: Server) -> None:
    server.status = 503
    maker = MonitorMaker(NoKeys())
    model = EmbeddingModel(provider=RemoteModel(server.url, "small"))
    (drift,) = (m for m in maker(served(model), "sha256:a") if m.name == "drift")
    for number in range(3_200):
        drift.see_text(made_text(f"question {number}", id=f"r{number}", at=float(number)))
    state = drift.state()
    assert 2_000 <= len(state["pending"]) <= 2_032
    again = next(m for m in maker(served(model), "sha256:a") if m.name == "drift")
    again.restore(state)
    assert again.state() == state


def test_texts_that_the_model_refuses_are_left_out_and_counted(server: Server) -> None:
    """While it learns, and while it watches."""
    server.refuses = "too long"
    maker = MonitorMaker(NoKeys())
    model = EmbeddingModel(provider=RemoteModel(server.url, "small"))
    (drift,) = (m for m in maker(served(model), "sha256:a") if m.name == "drift")
    drift.see_text(made_text("this is too long", id="x", at=0.0))
    for text in usual_texts(1_040, "prompt"):
        drift.see_text(text)
    drift.conditions(1e6)
    drift.see_text(made_text("this is too long as well", id="y", at=2e6))
    drift.conditions(3e6)
    assert drift.standing() == ("watching, 40 prompts, without 2 that the embedding model refuses")
    assert drift.blindness == ""  # type: ignore[attr-defined]


def test_what_cannot_be_declared_is_refused() -> None:
    remote = RemoteModel("https://h.example/v1", "m")
    for model, why in (
        (EmbeddingModel(), "either a service or"),
        (EmbeddingModel("small", remote), "either a service or"),
        (EmbeddingModel("bank"), "the service itself"),
        (EmbeddingModel("small", per_day=0), "per_day"),
        (EmbeddingModel("small", timeout_s=0.0), "timeout_s"),
    ):
        with pytest.raises(InvalidInput, match=why):
            check_declared(Declared(embeddings=model), "bank")


def test_what_an_alarm_is_about_is_told_by_meaning_again_when_the_model_is_back(
    server: Server,
) -> None:
    """By spelling while it is away, which is not kept."""
    clock = [0.0]
    model = EmbeddingModel(provider=RemoteModel(server.url, "small"))

    def made() -> TextDrift:
        """One that has not asked yet."""
        maker = MonitorMaker(NoKeys(), now=lambda: 0.0, monotonic=lambda: clock[0])
        (drift,) = (m for m in maker(served(model), "sha256:a") if isinstance(m, TextDrift))
        return drift

    before, drift = made(), made()
    for text in [*usual_texts(1_056, "prompt"), *changed_texts(320, "prompt", "new_content")]:
        before.see_text(text)
    drift.restore(before.state())
    bodies = len(server.bodies)
    assert drift.suggested_cases()
    assert len(server.bodies) == bodies, "cases wait for no model"
    server.status = 503
    assert drift.conditions(0.0)
    assert drift.state()["watching"]["explained"] == {}
    clock[0] += REST_S
    server.status = 200
    assert drift.conditions(0.0)
    assert drift.state()["watching"]["explained"] != {}
    bodies = len(server.bodies)
    assert drift.suggested_cases()
    assert len(server.bodies) == bodies


async def test_a_model_that_no_service_declares_any_more_is_let_go_with_its_vectors(
    server: Server, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # What is captured keeps errors, and so what raised them.
    platform, maker = Platform(), MonitorMaker(NoKeys())
    watching = Watching(store, platform, maker, lambda: 100_000.0, Outbox())
    await watching.load()
    one, other = (EmbeddingModel(provider=RemoteModel(server.url, name)) for name in ("a", "b"))
    for model in (one, other, None):
        platform.served = [] if model is None else [served(model)]
        await watching.look()
        gc.collect()
        assert [known for known, _ in maker._asked] == ([] if model is None else [model])
    await watching.close()


def test_who_goes_by_the_vectors_of_a_service_needs_it() -> None:
    of = served(EmbeddingModel(service="small"))
    names = ("drift", "answer_drift", "latency")
    standings = [MonitorStanding("bank", "sha256:a", name, "", 0, 0.0, 0.0) for name in names]
    watches = duties_of([of], standings, {"bank": "sha256:a"}, []).watches
    assert {one.monitor: one.needs for one in watches} == {
        "drift": "small", "answer_drift": "small", "latency": "", "slo": "",
    }  # fmt: skip
