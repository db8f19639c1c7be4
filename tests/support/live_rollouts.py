"""Rollouts on a real installation, under the traffic of users in sessions.

Several services roll out at once, each one release after another. The model server is
`support.recorded_engine`. Equal releases differ from the champion by their prompt alone, which the
server does not look at; bad ones are worse in one way each.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.cli.shipping import prepare
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.views import RolloutView
from fairlead.domain.errors import FairleadError
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.installation import Installation
from support.load import Connection, Reply, answer_of
from support.recorded_engine import (
    PER_INTENT,
    Model,
    Recorded,
    recorded_engine,
    right_intent,
    text_of_question,
)

EQUAL = "equal"
BAD = {
    "wrong": Model(recorded="c"),
    "slow": Model(slower=6.0),
    "broken": Model(broken=0.15),
    "refusing": Model(refusing=0.15),
    "failing": Model(failing=0.15),
    "dear": Model(longer=2.5),
}
"""The ways in which a release is bad, by the name of its model."""

MODELS = {EQUAL: Model(), **BAD}
TURNS = (1, 1, 2)
"""Questions of one session: each number as likely as the others."""

OPEN_MAX = 400
POLL_S = 0.5
IDLE_S_MAX = 30.0
CONTROL_S_MAX = 300.0
DURATIONS_MAX = 20_000
MANIFEST = """
service: {service}
release:
  name: {name}
  model: openai+http://127.0.0.1:{port}/v1?model={model}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question. {name}"}}
  price: {{input_per_million: 1, output_per_million: 10}}
rollout:
  steps:
    - {{share: 25%, requests: 10, seconds: 0}}
    - {{share: 50%, requests: 20, seconds: 0}}
  feedback: {{name: success, good_at_least: 1, required: true}}
  settle_seconds: 4
  warm_up_seconds: 0
  margin: 0.15
  expected_failure_rate: 0.1
  deadline_minutes: 5
  metrics:
    - {{source: duration_ms, tolerance: 25%, margin: 100%}}
    - {{source: cost, tolerance: 25%, margin: 100%}}
    - {{source: refusal, margin: 10%}}
    - {{source: format, margin: 10%}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
"""


@dataclass(frozen=True)
class Ended:
    """A rollout that has ended; `seconds` are those from the command to its end."""

    model: str
    view: RolloutView
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether it ended as it should."""
        return self.view.outcome == ("promoted" if self.model == EQUAL else "rolled_back")

    def of_canary(self, name: str) -> int:
        """A count of the canary at the verdict, such as `requests` that had settled."""
        verdict = self.view.verdict
        return 0 if verdict is None else int(verdict.numbers["canary"][name])


@dataclass
class Users:
    """Sessions that begin at random moments, each with some questions of one intent.

    Attributes:
        rate: Sessions a second, of all services together.
        models: Of the releases shipped so far, by their digests.
        says: How users of a service ask, where it is not `text_of_question`.
        silent: Whether they do not say which answers were right.
        ids: Of the requests that were answered.
        errors: Errors that the model server gave on purpose, as clients saw them.
        lost: All other replies, and connections that broke.
        durations_s: Of answers of equal releases, as clients saw them.
    """

    address: tuple[str, int]
    key: str
    services: Sequence[str]
    rate: float
    seed: int = 2
    models: dict[str, str] = field(default_factory=dict)
    says: dict[str, Callable[[int], str]] = field(default_factory=dict)
    silent: bool = False
    statuses: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    lost: list[Reply] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    sessions: int = 0
    feedback: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Come until `stop`, then wait for the answers that are due."""
        dice, questions = random.Random(self.seed), Recorded().questions
        free: list[Connection] = []
        tasks: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not stop.is_set():
            due += dice.expovariate(self.rate)
            if (delay := due - time.monotonic()) > 0:
                await asyncio.sleep(delay)
            while len(tasks) >= OPEN_MAX:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                due = time.monotonic()
            asked = questions_of_session(dice, questions)
            service = dice.choice(self.services)
            task = asyncio.create_task(self._session(service, asked, free))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
        for connection in free:
            connection.close()

    async def _session(
        self, service: str, questions: Sequence[int], free: list[Connection]
    ) -> None:
        self.sessions += 1
        name = f"s{self.sessions}"
        connection = self._connection(free)
        for question in questions:
            say = self.says.get(service, text_of_question)
            message = {"role": "user", "content": say(question)}
            body = {
                "model": service,
                "messages": [message],
                "response_format": {"type": "json_object"},
            }
            reply = await connection.post("/v1/chat/completions", body, name)
            self._note(reply)
            if reply.status == 200 and not self.silent:
                is_right = answer_of(reply).get("intent") == right_intent(question)
                said = {"request_id": reply.request_id, "name": "success", "value": is_right}
                noted = await connection.post("/v1/feedback", said)
                self.feedback += 1
                if noted.status not in (200, 202):
                    self.lost.append(noted)
        free.append(connection)

    def _connection(self, free: list[Connection]) -> Connection:
        """The one used last; those that the gateway is soon to close for idleness are let go."""
        while free and free[0].idle_s > IDLE_S_MAX:
            free.pop(0).close()
        return free.pop() if free else Connection(self.address, self.key)

    def _note(self, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        if reply.request_id:
            self.ids.append(reply.request_id)
        model = self.models.get(reply.release, EQUAL)
        if reply.status != 200:
            if reply.status >= 500 and MODELS[model].failing:
                self.errors += 1
            else:
                self.lost.append(reply)
        elif model == EQUAL and len(self.durations_s) < DURATIONS_MAX:
            self.durations_s.append(reply.ended - reply.began)


def questions_of_session(dice: random.Random, questions: int) -> list[int]:
    """Places of questions that all ask for the same intent."""
    first = PER_INTENT * dice.randrange(questions // PER_INTENT)
    return [first + dice.randrange(PER_INTENT) for _ in range(dice.choice(TURNS))]


@dataclass
class Result:
    """What came of all rollouts, and of the requests meanwhile.

    Attributes:
        seconds: From the first rollout to the end of the last.
        broken: Why services rolled out no further, where they did not.
        unbegun: Rollouts that did not begin, since the time for that was over.
    """

    rollouts: list[Ended]
    users: Users
    seconds: float
    broken: list[str] = field(default_factory=list)
    unbegun: int = 0


async def roll_out(
    installation: Installation,
    models: Sequence[str],
    *,
    services: int = 12,
    rate: float = 8.0,
    seconds: float = math.inf,
    on_end: Callable[[Ended], None] = lambda ended: None,
) -> Result:
    """Roll out a release of each of these models, begun in this order.

    Args:
        rate: Sessions a second of each service.
        seconds: No rollout begins after so long.
    """
    names = [f"bank-{number}" for number in range(services)]
    users = Users(installation.gateway, installation.key, names, rate * services)
    result = Result([], users, 0.0)
    waiting, numbers = deque(models), iter(range(1_000_000))

    async def ship(service: str, model: str, port: int) -> RolloutView:
        name = f"{model}-{next(numbers)}"
        made = await asyncio.to_thread(spec, installation, service, model, name, port)
        users.models[made.release] = model
        view = await asyncio.to_thread(installation.ship, made)
        return await _end(installation, view.id)

    async def one_after_another(service: str, port: int, until: float) -> None:
        while waiting and (at := time.monotonic()) < until:
            model = waiting.popleft()
            try:
                view = await ship(service, model, port)
            except FairleadError as error:
                result.broken.append(f"{service}, {model}: {error}")
                return
            result.rollouts.append(Ended(model, view, time.monotonic() - at))
            on_end(result.rollouts[-1])

    async with recorded_engine(MODELS) as engine:
        for name in names:
            first = await ship(name, EQUAL, engine.port)
            assert first.outcome == "promoted", first
        stop, begun = asyncio.Event(), time.monotonic()
        coming = asyncio.create_task(users.run(stop))
        try:
            await asyncio.gather(
                *(one_after_another(name, engine.port, begun + seconds) for name in names)
            )
        finally:
            result.seconds = time.monotonic() - begun
            result.unbegun = len(waiting)
            stop.set()
            await coming
    return result


def spec(installation: Installation, service: str, model: str, name: str, port: int) -> ServiceSpec:
    """A release that is asked for as `model`; its name makes it another one than any before."""
    text = MANIFEST.format(service=service, name=name, model=model, port=port)
    manifest = parse_manifest(text, Path("fairlead.yaml").absolute())
    return prepare(Registry(installation.paths.registry), manifest)


async def _end(installation: Installation, rollout: str) -> RolloutView:
    """The rollout, once it has ended; control may be slow to answer for a while."""
    deadline = time.monotonic() + CONTROL_S_MAX
    while True:
        try:
            view = await asyncio.to_thread(installation.rollout, rollout)
        except FairleadError:
            if time.monotonic() > deadline:
                raise
            continue
        if view.outcome != "running":
            return view
        deadline = time.monotonic() + CONTROL_S_MAX
        await asyncio.sleep(POLL_S)
