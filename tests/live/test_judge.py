"""A judge model decides rollouts on the whole platform, with real models and no client's feedback.

The judge is a server of chat completions that grades by a rule: an answer is good when it holds the
intent that the question has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.sample_views import Deleted, SampleView
from fairlead.control.views import StatusView
from fairlead.manifest import Manifest
from fairlead.manifest.judging import Capture, Judge
from support.installation import Installation
from support.load import Connection

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]
CLIENTS = 4
PAUSE_S = 0.15
"""Between a client's requests: so many that a judge on the same two cores keeps up."""


@pytest.fixture
def judge(questions: list[tuple[str, str]]) -> Iterator[AnsweringReplica]:
    intents = {" ".join(question.split()): intent for question, intent in questions}

    def grade(material: str) -> str:
        given = json.loads(material)
        intent = intents[" ".join(given["conversation"][-1]["text"].split())]
        try:
            is_right = json.loads(given["answer"])["intent"] == intent
        except (ValueError, KeyError, TypeError):
            is_right = False
        return json.dumps({"reason": "by the rule", "score": 5 if is_right else 1})

    made = AnsweringReplica(grade)
    yield made
    made.close()


async def ask_until_it_ends(
    installation: Installation, rollout: str, questions: list[tuple[str, str]]
) -> None:
    """Clients ask, and say nothing of what they are answered."""
    is_over = asyncio.Event()

    async def client(number: int) -> None:
        connection = Connection(installation.gateway, installation.key)
        turn = 0
        while not is_over.is_set():
            question, _ = questions[(turn * CLIENTS + number) % len(questions)]
            body = {
                "model": "banking",
                "messages": [{"role": "user", "content": question}],
                "stream": turn % 3 == 0,
            }
            await connection.post(
                "/v1/chat/completions", body, session=f"{rollout}-{number}-{turn}"
            )
            turn += 1
            await asyncio.sleep(PAUSE_S)
        connection.close()

    asking = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    try:
        await asyncio.to_thread(installation.finish, rollout, 240)
    except AssertionError as error:
        view = await asyncio.to_thread(installation.rollout, rollout)
        raise AssertionError(f"{view.reason}; {view.verdict}; {view.judging}") from error
    finally:
        is_over.set()
        await asyncio.gather(*asking)


async def test_a_judge_rolls_wrong_answers_back_and_promotes_right_ones(
    installation: Installation, questions: list[tuple[str, str]], judge: AnsweringReplica
) -> None:
    port = judge.url.rpartition(":")[2]

    def judged(manifest: Manifest) -> Manifest:
        rollout = manifest.rollout.model_copy(update={"feedback": None, "margin": 0.3})
        return manifest.model_copy(
            update={
                "gates": (),
                "rollout": rollout,
                "capture": Capture(share=0.8, per_minute=6_000),
                "judge": Judge(
                    model=f"openai+http://127.0.0.1:{port}/v1?model=grader",  # type: ignore[arg-type]
                    concurrency=8,
                ),
            }
        )

    first = installation.ship(installation.spec("a", judged))
    assert installation.finish(first.id).outcome == "promoted"

    wrong = installation.ship(installation.spec("d", judged))
    await ask_until_it_ends(installation, wrong.id, questions)
    view = installation.rollout(wrong.id)
    assert (view.outcome, view.ending) == ("rolled_back", "worse"), view.reason
    assert view.judging is not None
    assert view.judging.judged > 10
    status = installation.control.get(StatusView, "status")
    assert status.services[0].samples > 0

    better = installation.ship(installation.spec("b", judged))
    await ask_until_it_ends(installation, better.id, questions)
    view = installation.rollout(better.id)
    assert (view.outcome, view.ending) == ("promoted", "promoted"), view.reason

    kept = installation.control.get(list[SampleView], "samples", rollout=better.id, limit=5)
    assert len(kept) == 5
    assert all(sample.prompt and sample.answer for sample in kept)
    asked = json.dumps(judge.bodies)
    assert not [d for d in (first.release, wrong.release, better.id, wrong.id) if d in asked]
    gone = installation.control.delete(Deleted, "samples", service="banking")
    assert gone.count > 20
    said = installation.log()
    assert not [question for question, _ in questions if question in said]
