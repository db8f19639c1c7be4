"""Every implementation of the store is tested by the same tests: it joins `URLS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import FeedbackRow, RequestRow, RolloutRow

URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder}/store.db",
}


@pytest.fixture(params=sorted(URLS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def rollout() -> Callable[..., RolloutRow]:
    def make(rollout_id: str = "r1", **changes: Any) -> RolloutRow:
        row = RolloutRow(
            id=rollout_id,
            service="bank",
            release="sha256:b",
            name="B",
            state="canary",
            active=True,
            created_at=10.0,
            updated_at=11.0,
            version=0,
            document=b'{"step":1}',
        )
        return msgspec.structs.replace(row, **changes)

    return make


@pytest.fixture
def request_row() -> Callable[..., RequestRow]:
    def make(request_id: str, started_at: float, **changes: Any) -> RequestRow:
        row = RequestRow(
            id=request_id,
            service="bank",
            release="sha256:a",
            arm="champion",
            replica="a-1",
            key="k1",
            unit="u1",
            rho=0.1,
            rollout="",
            phase=0,
            endpoint="/v1/chat/completions",
            stream=False,
            status=200,
            error="",
            started_at=started_at,
            ttft_ms=10.0,
            itl_ms=-1.0,
            duration_ms=20.0,
            prompt_tokens=5,
            completion_tokens=7,
            attempts=1,
        )
        return msgspec.structs.replace(row, **changes)

    return make


@pytest.fixture
def feedback_row() -> Callable[..., FeedbackRow]:
    def make(feedback_id: str, request: str, value: float, at: float = 1.0) -> FeedbackRow:
        return FeedbackRow(feedback_id, request, "k1", "correct", value, at)

    return make
