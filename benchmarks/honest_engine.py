"""A model server for an hour of honest traffic: it answers in sentences, as streams if so asked.

As `support.recorded_engine`, whose models it answers for, it knows of each question whether a
release of the example was right. To the same question it nearly always says the same. It is a
process of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.gateway.processes import cpu_s_of  # noqa: E402
from benchmarks.honest_texts import matter_of_place, place_of, sentences  # noqa: E402

from support.recorded_engine import (  # noqa: E402
    CHOOSE,
    PER_INTENT,
    USUAL_S,
    Answer,
    Model,
    Recorded,
    RecordedEngine,
)

WAVERS = 0.05
"""Share of its answers that it words anew."""
FIRST_S, TOKEN_S = 0.12, 0.008
"""Until the first words, and for each token; what a model varies in time varies both."""
TOKENS_PER_WORD = 1.33
CHARS_PER_TOKEN = 4
WORDS_PER_EVENT = 4
MORE = "That is all that can be said of it at this time, as far as we know."
"""A model that says more says this, too, again and again."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        before: All that was said before, with the instruction.
    """

    model: str
    before: str
    question: str
    is_json: bool = False
    is_stream: bool = False
    has_usage: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> Wanted:
        """The request of this JSON."""
        *before, last = (str(each["content"]) for each in body["messages"])
        form = (body.get("response_format") or {}).get("type", "text")
        options = body.get("stream_options") or {}
        stream = bool(body.get("stream"))
        usage = bool(options.get("include_usage"))
        return cls(body["model"], "\n".join(before), last, form != "text", stream, usage)


class Speaker:
    """What these models answer."""

    def __init__(self, dice: random.Random) -> None:
        self.models: dict[str, Model] = {}
        self._recorded = Recorded()
        self._dice = dice

    def answer(self, wanted: Wanted) -> Answer:
        """The answer; what is recorded says whether it is right, and what becomes of it."""
        model = self.models[wanted.model].told(wanted.before, wanted.question)
        if CHOOSE in wanted.question:
            return self._recorded.chosen(model, wanted.question, self._dice)
        place = place_of(wanted.question, self._recorded.questions)
        kept = self._recorded.answer(model, place, self._dice)
        text = kept.text
        if text and not kept.is_refusal:
            text = self._said(model, kept, place, wanted)
        prompt = (len(wanted.before) + len(wanted.question)) // CHARS_PER_TOKEN
        words = round(len(text.split()) * TOKENS_PER_WORD)
        return replace(kept, text=text, prompt_tokens=prompt, completion_tokens=words)

    def _said(self, model: Model, kept: Answer, place: int, wanted: Wanted) -> str:
        is_anew = self._dice.random() < WAVERS
        dice = self._dice if is_anew else random.Random(wanted.question)
        about = matter_of_place(place if kept.is_right else place + PER_INTENT)
        text = sentences(about, dice)
        if model.longer > 1.0:
            text = " ".join([text, *[MORE] * round(model.longer)])
        if not wanted.is_json:
            return text
        said = json.dumps({"answer": text})
        return f"Here it is: {said[:-1]}" if kept.is_broken else said


class HonestEngine(RecordedEngine):
    """The server as its clients know it."""

    @property
    def cpu_s(self) -> float:
        """Processor time that it has taken."""
        return cpu_s_of(self._process.pid)


@asynccontextmanager
async def honest_engine(models: Mapping[str, Model]) -> AsyncIterator[HonestEngine]:
    """A server that answers for these models, by their names; it ends with this."""
    with _started() as process:  # Its input ends with this, and it with that.
        made = HonestEngine(process)
        await made.become(models)
        yield made


def _started() -> subprocess.Popen[str]:
    command = [sys.executable, __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _run() -> None:
    """Serve until the input ends: each line has models, and is answered with the port."""
    speaker = Speaker(random.Random(1))
    server = await asyncio.start_server(partial(_serve, speaker), "127.0.0.1", 0)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            speaker.models |= msgspec.json.decode(line, type=dict[str, Model])
            sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
            sys.stdout.flush()
    finally:
        server.close()


async def _serve(
    speaker: Speaker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            data = await reader.readexactly(_length(head))
            if not data:
                writer.write(_http(b"200 OK", {"object": "list", "data": []}))
            else:
                wanted = Wanted.of(json.loads(data))
                await _write(writer, wanted, speaker.answer(wanted))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass  # the client has gone, or the server ends
    finally:
        writer.close()


async def _write(writer: asyncio.StreamWriter, wanted: Wanted, answer: Answer) -> None:
    """It comes as late as its tokens are said."""
    pace = answer.seconds / USUAL_S
    await asyncio.sleep(FIRST_S * pace)
    if not answer.text:
        writer.write(_http(b"500 Internal Server Error", {"error": {"message": "out of order"}}))
        return
    if not wanted.is_stream:
        await asyncio.sleep(TOKEN_S * pace * answer.completion_tokens)
        writer.write(_http(b"200 OK", _whole(answer)))
        return
    pieces = list(_pieces(answer.text))
    each_s = TOKEN_S * pace * answer.completion_tokens / len(pieces)
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for number, piece in enumerate(pieces):
        if number:
            await asyncio.sleep(each_s)
        writer.write(_event({"choices": [_delta(piece, None)]}))
    writer.write(_event({"choices": [_delta("", "stop")]}))
    if wanted.has_usage:
        writer.write(_event({"choices": [], "usage": _usage(answer)}))
    writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _pieces(text: str) -> Iterator[str]:
    """Some words each, with the space behind them; together they are the text."""
    words = text.split(" ")
    for start in range(0, len(words), WORDS_PER_EVENT):
        piece = " ".join(words[start : start + WORDS_PER_EVENT])
        yield piece if start + WORDS_PER_EVENT >= len(words) else f"{piece} "


def _delta(piece: str, finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": piece}, "finish_reason": finish}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _whole(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": _usage(answer)}


def _event(said: dict[str, Any]) -> bytes:
    data = json.dumps({"object": "chat.completion.chunk", **said})
    return _chunk(f"data: {data}\n\n".encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _http(status: bytes, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(data)) + data


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Of a terminal: it is for who started it.
    asyncio.run(_run())
