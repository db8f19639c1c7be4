"""The live traffic: a real client that asks at a steady rate and says which answers were right."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import openai

from fairlead.domain.errors import InvalidInput

OPEN_MAX = 64
CLIENT_TIMEOUT_S = 30.0


class Question(msgspec.Struct, frozen=True):
    """What a customer asks, and the intent that a right answer names."""

    text: str
    intent: str


class Tally(msgspec.Struct):
    """What clients saw of one release."""

    served: int = 0
    right: int = 0


class Totals(msgspec.Struct):
    """What clients saw in all. A request has failed when its client got anything but an answer."""

    sent: int = 0
    failed: int = 0
    feedback_failed: int = 0
    latency_ms_sum: float = 0.0
    errors: list[str] = []


def read_questions(path: Path) -> list[Question]:
    """Questions from a CSV file with the columns `text` and `category`; raises InvalidInput."""
    try:
        with path.open(newline="", encoding="utf-8") as rows:
            found = [Question(row["text"], row["category"]) for row in csv.DictReader(rows)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"{path}: not a CSV file with the columns text and category ({error})"
        ) from None
    if not found:
        raise InvalidInput(f"{path}: no questions in it")
    return found


class Traffic:
    """Sends questions at `rate` per second, each in a session of its own, and posts feedback.

    The client library's own retries are off: what the gateway does not mend is counted as lost.
    """

    def __init__(
        self, base_url: str, key: str, service: str, questions: Sequence[Question], rate: float
    ) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=key, max_retries=0, timeout=CLIENT_TIMEOUT_S
        )
        self._service = service
        self._questions = list(questions)
        random.Random(77).shuffle(self._questions)  # noqa: S311 - an order, not a secret
        self._rate = rate
        self._open: set[asyncio.Task[None]] = set()
        self.totals = Totals()
        self.by_release: dict[str, Tally] = {}

    async def run(self) -> None:
        """Send until cancelled, then wait for the answers that are still due."""
        begun = time.monotonic()
        try:
            for number, question in enumerate(itertools.cycle(self._questions)):
                await asyncio.sleep(max(0.0, begun + number / self._rate - time.monotonic()))
                while len(self._open) >= OPEN_MAX:
                    await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._ask(number, question))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
        finally:
            if self._open:
                await asyncio.wait(self._open, timeout=CLIENT_TIMEOUT_S)
            await self._client.close()

    async def _ask(self, number: int, question: Question) -> None:
        self.totals.sent += 1
        started = time.monotonic()
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self._service,
                messages=[{"role": "user", "content": question.text}],
                extra_headers={"x-session-id": f"customer-{number}"},
            )
            answer = raw.parse().choices[0].message.content or ""
        except openai.OpenAIError as error:
            self.totals.failed += 1
            self._note(f"{type(error).__name__}: {error}")
            return
        self.totals.latency_ms_sum += (time.monotonic() - started) * 1e3
        tally = self.by_release.setdefault(raw.headers.get("x-fairlead-release", ""), Tally())
        tally.served += 1
        right = _intent(answer) == question.intent
        tally.right += right
        try:
            await self._client.post(
                "/feedback",
                cast_to=object,
                body={
                    "request_id": raw.headers["x-request-id"], "name": "success", "value": right,
                },
            )  # fmt: skip
        except openai.OpenAIError as error:
            self.totals.feedback_failed += 1
            self._note(f"feedback: {type(error).__name__}: {error}")

    def _note(self, line: str) -> None:
        if len(self.totals.errors) < 20:
            self.totals.errors.append(line)


def _intent(answer: str) -> str | None:
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    return value.get("intent") if isinstance(value, dict) else None
