"""What prefix-aware balancing gains: prompt tokens that llama.cpp replicas find in their caches.

    python benchmarks/prefix.py [--replicas N] [--conversations N] [--model FILE]

Starts llama.cpp replicas as `fairlead up` does and sends them the same conversations under each
policy, with fresh replicas each time. The gateway's own functions choose; round robin and hashing
are here for comparison. The table goes to benchmarks/results/prefix.md.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import math
import random
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.gateway.replicas.affinity import BOUND, Prefix, PrefixBalancer, prefix_of, rank
from fairlead.gateway.replicas.routing import least_loaded

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SLOTS = 4
CONTEXT = 4096
CLIENTS = 6
START_S = 30.0
PROSE = "how do i the card bank my a top up hello money where account pay limit fee transfer"
WORDS = PROSE.split()


@dataclass(eq=False)
class Replica:
    """A running replica; what the gateway's choice needs to know of it."""

    id: str
    port: int
    slots: int = SLOTS
    in_flight: int = 0
    answered: int = 0

    def is_usable(self, now: float) -> bool:
        """Always."""
        return True


Policy = Callable[[Sequence[Replica], Prefix, int], Replica | None]


def round_robin(replicas: Sequence[Replica], prefix: Prefix, turn: int) -> Replica | None:
    """The next one with a free slot."""
    order = [replicas[(turn + n) % len(replicas)] for n in range(len(replicas))]
    return next((r for r in order if r.in_flight < r.slots), None)


def by_hash(replicas: Sequence[Replica], prefix: Prefix, turn: int) -> Replica | None:
    """Consistent hashing with bounded loads, by rendezvous; nothing is remembered."""
    bound = math.ceil(BOUND * (sum(r.in_flight for r in replicas) + 1) / len(replicas))
    free = [r for r in replicas if r.in_flight < min(bound, r.slots)]
    return max(free, key=lambda r: rank(prefix.start, r.id), default=None)


def by_prefix(workers: int) -> Policy:
    """What the gateway does; each worker knows only what it has sent itself."""
    balancers = [PrefixBalancer() for _ in range(workers)]

    def pick(replicas: Sequence[Replica], prefix: Prefix, turn: int) -> Replica | None:
        balancer = balancers[turn % workers]
        chosen = balancer.pick(replicas, prefix, turn)
        if chosen is not None:
            balancer.note(chosen.id, prefix)
        return chosen

    return pick


POLICIES: dict[str, Callable[[], Policy]] = {
    "round robin": lambda: round_robin,
    "least loaded": lambda: lambda replicas, prefix, turn: least_loaded(replicas, turn),
    "hash of the first KiB, bounded": lambda: by_hash,
    "prefix": lambda: by_prefix(1),
    "prefix, two workers": lambda: by_prefix(2),
}


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
    """What the replicas said of the prompts."""

    prompt: int = 0
    cached: int = 0


class Load:
    """Clients that go through the conversations, a random one's next turn each time."""

    def __init__(
        self, replicas: list[Replica], policy: Policy, waiting: list[Conversation], seed: int
    ) -> None:
        self._replicas = replicas
        self._policy = policy
        self._waiting = waiting
        self._dice = random.Random(seed)
        self._lock = threading.Condition()
        self._turn = itertools.count()
        self._open = 0
        self.seen = Seen()

    def run(self) -> None:
        """Until all are through."""
        threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self) -> None:
        while (taken := self._take()) is not None:
            conversation, replica, body = taken
            self._give_back(conversation, replica, ask(replica.port, body))

    def _take(self) -> tuple[Conversation, Replica, bytes] | None:
        with self._lock:
            while not self._waiting:
                if not self._open:
                    return None
                self._lock.wait()
            number = self._dice.randrange(min(len(self._waiting), 24))
            conversation = self._waiting.pop(number)
            question = conversation.questions.pop(0)
            conversation.messages.append({"role": "user", "content": question})
            body = json.dumps(
                {
                    "model": "m", "messages": conversation.messages, "temperature": 0,
                    "max_tokens": 8,
                }
            ).encode()  # fmt: skip
            prefix = prefix_of(body)
            assert prefix is not None
            replica = self._policy(self._replicas, prefix, next(self._turn))
            assert replica is not None, "there are fewer clients than slots"
            replica.in_flight += 1
            self._open += 1
            return conversation, replica, body

    def _give_back(self, conversation: Conversation, replica: Replica, answer: Any) -> None:
        usage, message = answer["usage"], answer["choices"][0]["message"]
        with self._lock:
            self.seen.prompt += usage["prompt_tokens"]
            self.seen.cached += (usage.get("prompt_tokens_details") or {})["cached_tokens"]
            replica.in_flight -= 1
            replica.answered += 1
            self._open -= 1
            conversation.messages.append(
                {"role": "assistant", "content": message.get("content") or ""}
            )
            if conversation.questions:
                self._waiting.insert(min(len(self._waiting), 23), conversation)
            self._lock.notify_all()


def ask(port: int, body: bytes) -> Any:
    """The answer, decoded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"answered {response.status}: {data[:300]!r}")
    return json.loads(data)


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


def table(
    rows: list[tuple[str, str, Seen, list[Replica]]], count: int, conversations: int, model: str
) -> str:
    """The result as Markdown."""
    lines = [
        "# Prompt tokens found in a replica's cache, by balancing",
        "",
        f"{count} llama.cpp replicas of {SLOTS} slots, {CLIENTS} clients, {conversations}"
        " conversations (four times as many single questions).",
        f"Model: {model}. Each policy begins with empty caches and gets the same questions.",
        "",
        "| what is asked | balancing | cached | prompt tokens | busiest replica |",
        "| --- | --- | --: | --: | --: |",
    ]
    for workload, policy, seen, replicas in rows:
        answered = sum(r.answered for r in replicas)
        lines.append(
            f"| {workload} | {policy} | {seen.cached / seen.prompt:.1%} | {seen.prompt:,} | "
            f"{max(r.answered for r in replicas) / answered:.0%} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=14)
    parser.add_argument("--model", type=Path, help="GGUF file; a tiny random one if not given")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as scratch:
        folder = Path(scratch)
        model = given.model or tiny(folder / "tiny.gguf")
        for workload, make in WORKLOADS.items():
            for policy, build in POLICIES.items():
                waiting = make(given.conversations, random.Random(1))
                with running(given.replicas, model, folder) as replicas:
                    load = Load(replicas, build(), waiting, seed=2)
                    load.run()
                rows.append((workload, policy, load.seen, replicas))
                print(workload, "|", policy, "|", f"{load.seen.cached / load.seen.prompt:.1%}")
    name = given.model.name if given.model else "tiny, random weights"
    text = table(rows, given.replicas, given.conversations, name)
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
