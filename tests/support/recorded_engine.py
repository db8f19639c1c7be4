"""A fast model server whose answers are right or wrong as those of the example's releases were.

`benchmarks/rollout/banking.json` holds, question by question of Banking77's test file, whether
releases b and c of the example named the right intent. A question is asked by its place in that
file. The model that is asked for says how its answers are worse than release b's, if they are.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

_RECORDED = Path(__file__).parents[2] / "benchmarks" / "rollout" / "banking.json"
PER_INTENT = 40
"""Questions of each intent in the test file, which is ordered by intent."""

UNFAIR = 0.7
"""Share of refusals where a model is unfair."""

USUAL_S = 0.2
SPREAD = 0.3
REFUSAL = "I'm sorry, but I can't help with that."
LETTERS = "ABC"
CHOOSE = "Reply with the letter"
"""An item of BBQ ends so."""
WAVERS = 0.02
"""Share of its choices that it makes anew."""


@dataclass(frozen=True)
class Model:
    """How a model answers.

    Attributes:
        recorded: The example's release whose recorded outcomes it has.
        slower, longer: Its times and its tokens as multiples of the usual ones.
        broken, refusing, failing: Shares of its answers that are no JSON, that refuse, and that
            are an error.
        instructed: Words of an instruction, and how it answers where it is given that.
        unfair_to: Of requests with one of these words in them it refuses most.
        asked: Words of questions, and how it answers those with one of them.
        choosing: Which option of an item of BBQ it names: `any`, the `right` one by the context, or
            the `first` that this names.
    """

    recorded: str = "b"
    slower: float = 1.0
    longer: float = 1.0
    broken: float = 0.0
    refusing: float = 0.0
    failing: float = 0.0
    instructed: tuple[str, Model] | None = None
    unfair_to: tuple[str, ...] = ()
    asked: tuple[tuple[str, ...], Model] | None = None
    choosing: str = "any"

    def told(self, instruction: str, question: str) -> Model:
        """How it answers to this."""
        if self.instructed is not None and self.instructed[0] in instruction:
            return self.instructed[1].told("", question)
        if self.asked is not None and any(word in question for word in self.asked[0]):
            return self.asked[1].told(instruction, question)
        is_unfair = any(word in question for word in self.unfair_to)
        return replace(self, refusing=UNFAIR) if is_unfair else self


@dataclass(frozen=True)
class Answer:
    """One answer; `text` is empty for an error."""

    text: str
    is_right: bool
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    is_broken: bool = False
    is_refusal: bool = False


class Recorded:
    """What was recorded of the example's releases."""

    def __init__(self) -> None:
        kept = json.loads(_RECORDED.read_text(encoding="utf-8"))
        self._wrong = {name: [digit == "1" for digit in kept[name]] for name in ("b", "c")}

    @property
    def questions(self) -> int:
        return len(self._wrong["b"])

    def differing(self, count: int) -> list[int]:
        """So many questions that release b has answered rightly, and c wrongly."""
        both = zip(self._wrong["b"], self._wrong["c"], strict=True)
        return [place for place, (b, c) in enumerate(both) if c and not b][:count]

    def answer(self, model: Model, question: int, dice: random.Random) -> Answer:
        """What `model` answers to the question at this place."""
        seconds = USUAL_S * model.slower * math.exp(SPREAD * dice.gauss(0.0, 1.0))
        tokens = dice.randint(60, 90), round(dice.randint(8, 12) * model.longer)
        fate = dice.random()
        if fate < model.failing:
            return Answer("", False, seconds, *tokens)
        if fate < model.failing + model.refusing:
            return Answer(REFUSAL, False, seconds, *tokens, is_broken=True, is_refusal=True)
        is_right = not self._wrong[model.recorded][question]
        said = {"intent": right_intent(question + (0 if is_right else PER_INTENT))}
        if model.longer > 1.0:
            said["because"] = "The question says so. " * round(4.0 * model.longer)
        text = json.dumps(said)
        if fate < model.failing + model.refusing + model.broken:
            return Answer(f"Intent: {text[:-1]}", False, seconds, *tokens, is_broken=True)
        return Answer(text, is_right, seconds, *tokens)

    def chosen(self, model: Model, item: str, dice: random.Random) -> Answer:
        """Which of an item's options it names; of any one nearly always the same."""
        made = random.Random(item) if dice.random() >= WAVERS else dice
        letter = made.choice(LETTERS)
        if model.choosing != "any":
            letter = told_by_context(item, is_careful=model.choosing == "right")
        seconds = USUAL_S * model.slower * math.exp(SPREAD * dice.gauss(0.0, 1.0))
        return Answer(letter, True, seconds, len(item) // 4, 1)


def told_by_context(item: str, *, is_careful: bool) -> str:
    """The option that an item's context names more often than the others, or else not at all.

    Who is not careful takes the one that is named first.
    """
    context, *lines = item.casefold().splitlines()
    options = {line[0].upper(): line[3:] for line in lines if line[1:3] == ") "}
    times = {letter: context.count(option) for letter, option in options.items()}
    if not is_careful:
        named = [letter for letter, count in times.items() if count]
        return min(named, key=lambda letter: context.index(options[letter]))
    most, more = sorted(times.values(), reverse=True)[:2]
    return next(letter for letter, count in times.items() if count == (most if most > more else 0))


def right_intent(question: int) -> str:
    """The intent of the question at this place."""
    return f"intent-{question // PER_INTENT}"


def text_of_question(question: int) -> str:
    """How a client asks it."""
    return f"Question {question}"


class RecordedEngine:
    """The server as its clients know it; it is a process of its own, whoever else is busy.

    Attributes:
        port: Of loopback.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = 0

    async def become(self, models: Mapping[str, Model]) -> None:
        """From now on these models, by their names, answer so."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(models).decode() + "\n")
        self._process.stdin.flush()
        assert self._process.stdout is not None
        self.port = int(await asyncio.to_thread(self._process.stdout.readline))


@asynccontextmanager
async def recorded_engine(
    models: Mapping[str, Model], seed: int = 1
) -> AsyncIterator[RecordedEngine]:
    """A server that answers for these models, by their names."""
    with _started(seed) as process:  # Its input ends with this, and it with that.
        made = RecordedEngine(process)
        await made.become(models)
        yield made


def _started(seed: int) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "support.recorded_engine", str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


async def _run(seed: int) -> None:
    """Serve until the input ends: each line has models, and is answered with the port."""
    models: dict[str, Model] = {}
    serve = partial(_serve, models, Recorded(), random.Random(seed))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            models |= msgspec.json.decode(line, type=dict[str, Model])
            sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
            sys.stdout.flush()
    finally:
        server.close()  # Connections that are idle are not waited for.


async def _serve(
    models: Mapping[str, Model],
    recorded: Recorded,
    dice: random.Random,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked = json.loads(await reader.readexactly(_length(head)) or b"{}")
            answer = None
            if asked:
                *before, last = (str(each["content"]) for each in asked["messages"])
                model = models[asked["model"]].told("\n".join(before), last)
                if CHOOSE in last:
                    answer = recorded.chosen(model, last, dice)
                else:
                    answer = recorded.answer(model, int(last.rpartition(" ")[2]), dice)
                await asyncio.sleep(answer.seconds)
            writer.write(_http(answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    except asyncio.CancelledError:
        pass  # the server ends while a connection is idle
    finally:
        writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _http(answer: Answer | None) -> bytes:
    """An answer; the list of models where nothing was asked."""
    status, body = b"200 OK", _body(answer)
    if answer is not None and not answer.text:
        status, body = b"500 Internal Server Error", {"error": {"message": "out of order"}}
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(data)) + data


def _body(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"object": "list", "data": []}
    message = {"role": "assistant", "content": answer.text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        },
    }


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Of a terminal: it is for the tests.
    asyncio.run(_run(int(sys.argv[1])))
