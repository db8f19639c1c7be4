"""What prefix-aware balancing gains: prompt tokens that llama.cpp replicas find in their caches.

    python -m benchmarks.prefix [--replicas N] [--conversations N] [--rounds N] [--model FILE]

Starts llama.cpp replicas as `fairlead up` does and `fairlead gateway run` before them, and sends it
the same conversations under each balance, everything fresh each time; other conversations in each
round, since a run differs from the next by as much as some balances do. Round robin, which the
gateway does not have, is one service for each replica, asked in turns; hashing, which it does not
have either, is chosen by the benchmark itself. The table goes to benchmarks/results/prefix.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.prefix_ways import SLOTS, ByHash, Gateway, Replica, Unanswered, Way

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
CONTEXT = 4096
CLIENTS = 6
START_S = 60.0
PROSE = "how do i the card bank my a top up hello money where account pay limit fee transfer"
WORDS = PROSE.split()


Policy = Callable[[Path, Sequence[Replica]], Way]

POLICIES: dict[str, Policy] = {
    "round robin": lambda folder, replicas: Gateway(folder, replicas, "", 1),
    "least loaded": lambda folder, replicas: Gateway(folder, replicas, "least_loaded", 1),
    "least loaded, two workers": lambda folder, replicas: Gateway(
        folder, replicas, "least_loaded", 2
    ),
    "hash of the first KiB, bounded": lambda folder, replicas: ByHash(replicas),
    "prefix": lambda folder, replicas: Gateway(folder, replicas, "prefix", 1),
    "prefix, two workers": lambda folder, replicas: Gateway(folder, replicas, "prefix", 2),
}

BESIDE = {
    "round robin": "least loaded",
    "hash of the first KiB, bounded": "least loaded",
    "prefix": "least loaded",
    "prefix, two workers": "least loaded, two workers",
}
"""What each is compared with in a round."""


@dataclass
class Conversation:
    """Its messages so far, and the turns it still has."""

    messages: list[dict[str, str]]
    questions: list[str] = field(default_factory=list)


def prose(dice: random.Random, size: int) -> str:
    """So many characters of words."""
    text = ""
    while len(text) < size:
        text += dice.choice(WORDS) + " "
    return text[:size]


def one_system_prompt(count: int, dice: random.Random) -> list[Conversation]:
    """Conversations of four turns that share one system prompt."""
    return tenants(count, dice, systems=1)


def tenants(count: int, dice: random.Random, systems: int = 9) -> list[Conversation]:
    """Conversations of four turns, each under one of several system prompts."""
    prompts = [prose(dice, 1500) for _ in range(systems)]
    return [
        Conversation(
            [{"role": "system", "content": dice.choice(prompts)}],
            [prose(dice, dice.randint(60, 250)) for _ in range(4)],
        )
        for _ in range(count)
    ]


def documents(count: int, dice: random.Random) -> list[Conversation]:
    """Single questions about one of twelve documents, which stands before the question."""
    texts = [prose(dice, 2500) for _ in range(12)]
    return [
        Conversation([], [f"{dice.choice(texts)}\n\n{prose(dice, 80)}"]) for _ in range(4 * count)
    ]


WORKLOADS = {
    "one system prompt, conversations of 4 turns": one_system_prompt,
    "9 system prompts, conversations of 4 turns": tenants,
    "questions about 12 documents": documents,
}


@dataclass
class Seen:
    """What the replicas said of the prompts.

    Attributes:
        prompt: Tokens of them.
        cached: Of these, tokens found in the cache.
        busiest: Share of the answers that the busiest replica gave.
    """

    prompt: int = 0
    cached: int = 0
    busiest: float = 0.0

    @property
    def share(self) -> float:
        """Of the tokens, what was found in the cache."""
        return self.cached / self.prompt


class Load:
    """Clients that go through the conversations, a random one's next turn each time."""

    def __init__(self, way: Way, waiting: list[Conversation], seed: int) -> None:
        self._way = way
        self._waiting = waiting
        self._dice = random.Random(seed)
        self._lock = threading.Condition()
        self._open = 0
        self._has_failed = False
        self.seen = Seen()

    def run(self) -> None:
        """Until all are through; what one of them raises ends the others, too."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            for client in [pool.submit(self._client) for _ in range(CLIENTS)]:
                client.result()

    def _client(self) -> None:
        while (taken := self._take()) is not None:
            conversation, body = taken
            try:
                self._give_back(conversation, self._way.ask(body))
            except BaseException:
                self._give_up()
                raise

    def _take(self) -> tuple[Conversation, dict[str, Any]] | None:
        with self._lock:
            while not self._waiting and not self._has_failed:
                if not self._open:
                    return None
                self._lock.wait()
            if self._has_failed:
                return None
            number = self._dice.randrange(min(len(self._waiting), 24))
            conversation = self._waiting.pop(number)
            question = conversation.questions.pop(0)
            conversation.messages.append({"role": "user", "content": question})
            self._open += 1
            messages = list(conversation.messages)
            return conversation, {"messages": messages, "temperature": 0, "max_tokens": 8}

    def _give_up(self) -> None:
        with self._lock:
            self._has_failed = True
            self._lock.notify_all()

    def _give_back(self, conversation: Conversation, answer: Any) -> None:
        usage, message = answer["usage"], answer["choices"][0]["message"]
        with self._lock:
            self.seen.prompt += usage["prompt_tokens"]
            self.seen.cached += (usage.get("prompt_tokens_details") or {})["cached_tokens"]
            self._open -= 1
            conversation.messages.append(
                {"role": "assistant", "content": message.get("content") or ""}
            )
            if conversation.questions:
                self._waiting.insert(min(len(self._waiting), 23), conversation)
            self._lock.notify_all()


@contextlib.contextmanager
def running(count: int, model: Path, folder: Path) -> Iterator[list[Replica]]:
    """Fresh replicas with empty caches."""
    settings = json.dumps({"context": CONTEXT * SLOTS, "slots": SLOTS, "threads": 1})
    processes = []
    try:
        for number in range(count):
            ready = folder / f"ready-{number}"
            ready.unlink(missing_ok=True)
            processes.append(
                subprocess.Popen(
                    [
                        sys.executable, "-P", "-m", "fairlead.engines.llamacpp",
                        "--model", str(model), "--alias", "m", "--settings", settings,
                        "--ready-file", str(ready),
                    ]
                )
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        files = [folder / f"ready-{number}" for number in range(count)]
        while not all(file.exists() for file in files):
            if time.monotonic() > deadline:
                raise SystemExit("the replicas did not start")
            time.sleep(0.05)
        ports = [int(file.read_text().strip().rpartition(":")[2]) for file in files]
        yield [Replica(f"r{number}", port) for number, port in enumerate(ports)]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def table(rows: dict[tuple[str, str], list[Seen]], given: argparse.Namespace, model: str) -> str:
    """The result as Markdown."""
    lines = [
        "# Prompt tokens found in a replica's cache, by balancing",
        "",
        f"{given.replicas} llama.cpp replicas of {SLOTS} slots, {CLIENTS} clients, "
        f"{given.conversations} conversations (four times as many single questions).",
        f"Model: {model}. Each balance begins with empty caches and gets the same questions, "
        "through `fairlead gateway run`; round robin is one service for each replica, asked in "
        "turns. The hash is chosen by the benchmark, without a gateway. Medians of"
        f" {given.rounds} rounds with questions of their own (least to most); what is gained beside"
        " least loaded, with as many workers, is of the same round each time.",
        "",
        "| what is asked | balancing | cached | points more than least loaded | prompt tokens "
        "| busiest replica |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for (workload, policy), found in rows.items():
        beside = rows[workload, BESIDE.get(policy, policy)]
        more = [one.share - other.share for one, other in zip(found, beside, strict=True)]
        gained = (
            _spread([round(100 * part) for part in more], "{:+.0f}") if policy in BESIDE else ""
        )
        tokens = statistics.median(seen.prompt for seen in found)
        busiest = statistics.median(seen.busiest for seen in found)
        lines.append(
            f"| {workload} | {policy} | {_spread([seen.share for seen in found], '{:.0%}')} "
            f"| {gained} | {tokens:,.0f} | {busiest:.0%} |"
        )
    return "\n".join([*lines, ""])


def _spread(values: Sequence[float], form: str) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{form.format(middle)} ({form.format(least)} to {form.format(most)})"


def measured(
    policy: Policy,
    folder: Path,
    replicas: Sequence[Replica],
    waiting: list[Conversation],
    seed: int,
) -> Seen:
    """What was found in caches, and how the answers were spread."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        way = policy(Path(own), replicas)
        load = Load(way, waiting, seed)
        try:
            load.run()
        finally:
            answered = way.answered()
    load.seen.busiest = max(answered.values()) / answered.total()
    return load.seen


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, help="GGUF file; a tiny random one if not given")
    given = parser.parse_args()
    rows: dict[tuple[str, str], list[Seen]] = {(w, p): [] for w in WORKLOADS for p in POLICIES}
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as scratch:
        folder = Path(scratch)
        model = given.model or tiny(folder / "tiny.gguf")
        for number in range(given.rounds):
            for (workload, policy), found in rows.items():
                waiting = WORKLOADS[workload](given.conversations, random.Random(number + 1))
                with running(given.replicas, model, folder) as replicas:
                    try:
                        build = POLICIES[policy]
                        found.append(measured(build, folder, replicas, waiting, number))
                    except Unanswered as error:
                        raise SystemExit(f"{workload}, {policy}: {error}") from None
                print(number + 1, "|", workload, "|", policy, "|", f"{found[-1].share:.1%}")
    name = given.model.name if given.model else "tiny, random weights"
    text = table(rows, given, name)
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prefix.md").write_text(text, encoding="utf-8")


def tiny(path: Path) -> Path:
    """A model that costs little to run, with room for long prompts."""
    made = runpy.run_path(str(ROOT / "tests" / "engines" / "tiny_gguf.py"))
    made["write"](path, context=CONTEXT)
    return path


if __name__ == "__main__":
    main()
