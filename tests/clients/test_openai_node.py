"""The `openai` package for Node speaks to the gateway as to OpenAI."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import KEY, Asked, Engine, Rig, hangs, streams, until
from scripted import fails, never_ends, speaks

Gateway = Callable[..., Awaitable[Rig]]

VERSION = "6.30.1"
"""The newest line that runs on Node 20."""
SCRIPT = Path(__file__).with_name("openai_node.mjs")
EXPECTED: dict[str, Any] = {
    "chat": "Hello",
    "stream": "Hello",
    "usage": 10,
    "completion": "Hello",
    "completionStream": "Hello",
    "plainTools": ["weather", "Bern", "Hello"],
    "tools": '{"city": "Bern"}',
    "structured": "lost_card",
    "embeddings": [[0.5, -0.5]] * 2,
    "responses": "Hello",
    "responsesStream": "Hello",
    "missing": ["NotFoundError", 404, "model_not_found"],
    "unauthorized": ["AuthenticationError", 401],
    "refused": ["BadRequestError", 400, "context_length"],
    "broken": ["ab", True, "upstream_cut"],
    "leftAlone": "APIUserAbortError",
    "retried": "Hello",
    "cancelled": True,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package; without one that can be had, the test is skipped.

    `FAIRLEAD_REQUIRE_NODE` makes that a failure: `.ci/run` sets it where node is present.
    """
    skip = pytest.fail if os.environ.get("FAIRLEAD_REQUIRE_NODE") else pytest.skip
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("there is no node or no npm here")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"name": "t", "private": true, "type": "module"}')
    options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    done = subprocess.run(
        ["npm", "install", *options, f"openai@{VERSION}"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        skip(f"npm cannot install openai@{VERSION}: {done.stderr[-300:]}")
    shutil.copy(SCRIPT, folder)
    return folder


def counts(rig: Rig) -> Counter[int]:
    return Counter(record.status for record in rig.requests())


async def test_every_call_of_the_package(package: Path, gateway: Gateway, engine: Engine) -> None:
    busy = {"error": {"message": "busy", "type": "rate_limit_exceeded", "code": "rate_limit"}}
    at_first = fails((429, busy, {"retry_after": "0"}))
    error = {"message": "too long", "type": "invalid_request_error", "code": "context_length"}
    refuses = fails((400, {"error": error}, {}))
    special = {
        b"busy": at_first,
        b"endless": never_ends(),
        b"long": refuses,
        b"breaking": streams("a", "b", "c", cut_after=2),
        b"waiting": hangs,
    }

    async def by_word(asked: Asked, writer: asyncio.StreamWriter) -> None:
        behave = next((b for word, b in special.items() if b'"%b"' % word in asked.body), speaks)
        await behave(asked, writer)

    rig = await gateway(by_word)
    process = await asyncio.create_subprocess_exec(
        "node", SCRIPT.name, f"{rig.url}/v1", KEY,
        cwd=package, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert dict(json.loads(line) for line in out.splitlines()) == EXPECTED
    await until(lambda: engine.hung_up >= 2)
    await until(lambda: counts(rig)[499] == 2)
    assert counts(rig)[429] == 1, "which the package has tried again"
