"""Commands on the API of a desk that is kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from cli.simulated_installation import Done, Run
from control.kept_desk import T0, KeptDesk, outage
from fairlead.cli import api
from fairlead.cli.api import ControlClient
from fairlead.control.api import create_app

TOKEN = "the-token"
NOW = T0 + 120.0


class Watching:
    """A desk, its time, and commands on it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.kept: KeptDesk = outage()
        self.now = NOW

    def __call__(self, *arguments: object) -> str:
        """What a command prints; it has to succeed."""
        done = self._run(*arguments)
        assert done.code == 0, done.err
        return done.out

    def refused(self, *arguments: object) -> Done:
        before = self.kept.desk
        done = self._run(*arguments)
        assert done.code != 0
        assert self.kept.desk is before, "what is refused changes nothing"
        return done


@pytest.fixture
def watching(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    made = Watching(run)
    plane: Any = SimpleNamespace(now=lambda: made.now, watching=made.kept)
    with TestClient(create_app(plane, TOKEN)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        monkeypatch.setattr(ControlClient, "of", lambda _paths: ControlClient("http://x:1", TOKEN))
        monkeypatch.setattr(ControlClient, "_call", _calling(client))
        monkeypatch.setattr("time.time", lambda: made.now)
        yield made


def _calling(client: TestClient) -> Callable[..., bytes]:
    def call(
        _control: ControlClient, method: str, path: tuple[str, ...],
        query: dict[str, Any], body: bytes | None,
    ) -> bytes:  # fmt: skip
        given = urlencode({name: value for name, value in query.items() if value is not None})
        answer = client.request(method, f"/api/v1/{'/'.join(path)}?{given}", content=body)
        if answer.status_code >= 400:
            raise api._problem(answer.status_code, answer.content)
        return answer.content

    return call
