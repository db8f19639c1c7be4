"""vLLM's own load client asks through the gateway; both count the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import KEY
from vllm_rig import Gateway

from support.vllm.environment import model
from support.vllm.servers import NAME, Server, environ
from support.vllm.streams import CHAT, COMPLETIONS

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

PROMPTS = 60
AT_ONCE = 10


async def bench(environment: Path, url: str, backend: str, path: str, out: Path) -> dict[str, Any]:
    """What `vllm bench serve` reports."""
    command = [
        str(environment / "bin" / "vllm"), "bench", "serve", "--backend", backend,
        "--base-url", url, "--endpoint", path, "--model", NAME, "--tokenizer",
        str(model(environment)), "--dataset-name", "random", "--random-input-len", "60",
        "--random-output-len", "24", "--random-range-ratio", "0.5", "--num-prompts", str(PROMPTS),
        "--max-concurrency", str(AT_ONCE), "--ignore-eos", "--ready-check-timeout-sec", "0",
        "--save-result", "--save-detailed", "--result-dir", str(out), "--result-filename",
        "result.json", "--disable-tqdm",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environ(), "OPENAI_API_KEY": KEY},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-4000:]
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


@pytest.mark.parametrize(("backend", "path"), [("openai-chat", CHAT), ("openai", COMPLETIONS)])
async def test_no_request_of_a_load_fails_and_the_records_count_its_tokens(
    environment: Path,
    servers: list[Server],
    gateway: Gateway,
    tmp_path: Path,
    backend: str,
    path: str,
) -> None:
    rig = await gateway(*(server.url for server in servers))
    result = await bench(environment, rig.url, backend, path, tmp_path)
    assert (result["completed"], result["failed"]) == (PROMPTS, 0), result["errors"]
    records = rig.requests()
    assert len(records) == PROMPTS
    assert {(r.status, r.error, r.key, r.stream) for r in records} == {(200, "", "k1", True)}
    assert {r.endpoint for r in records} == {path.removeprefix("/v1/")}
    assert sum(r.prompt_tokens for r in records) == result["total_input_tokens"] > 0
    assert sum(r.completion_tokens for r in records) == result["total_output_tokens"] > 0
    assert sorted(r.completion_tokens for r in records) == sorted(result["output_lens"])
    assert len({r.replica for r in records}) == 2, "both servers have a part of the load"
