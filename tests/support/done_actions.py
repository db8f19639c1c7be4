"""What came of actions on alerts, as clients and people find it: not only that it was done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.proposals import Proposal
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.sample_views import SampleView
from fairlead.control.watching.watch_views import ActionView
from fairlead.monitoring.monitors.interface import SuggestedCase
from support.faulty_services import DISHES, DISLIKED, HONEST, LEARN
from support.installation import Installation
from support.load import Connection, Reply, answer_of, text_of
from support.recorded_engine import REFUSAL, Recorded, text_of_question

ASKED = 8
"""Questions that a service is asked, to see who answers and how."""
OTHERWISE = {"quantised": 1}
"""So many of the answers may be others: llama.cpp sums up in another order in another batch."""


class Clients:
    """Ask services some questions.

    Attributes:
        ids: Of the requests that were answered, by service.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.ids: dict[str, list[str]] = {}

    async def ask(self, service: str, texts: Sequence[str]) -> list[Reply]:
        """All at once; each has to be answered."""
        replies = await asyncio.gather(*(self._ask(service, text) for text in texts))
        self.ids.setdefault(service, []).extend(reply.request_id for reply in replies)
        assert [reply for reply in replies if reply.status != 200] == []
        return replies

    async def _ask(self, service: str, text: str) -> Reply:
        connection = Connection(self._installation.gateway, self._installation.key)
        body = {"model": service, "messages": [{"role": "user", "content": text}]}
        try:
            return await connection.post("/v1/chat/completions", body)
        finally:
            connection.close()


def telling(questions: Sequence[str]) -> dict[str, list[str]]:
    """What the services are asked whose worse releases answer it otherwise.

    Args:
        questions: Of the example's customers.
    """
    names = [DISLIKED[number % len(DISLIKED)] for number in range(ASKED)]
    return {
        "prompt": [text_of_question(number) for number in Recorded().differing(ASKED)],
        "unfair": [f"I am {name}, and this is my question {n}" for n, name in enumerate(names)],
        "quantised": list(questions[:ASKED]),
    }


async def check_way_back(
    clients: Clients, before: Mapping[str, Sequence[Reply]], asked: Mapping[str, Sequence[str]],
    first: Mapping[str, str],
) -> None:  # fmt: skip
    """The first releases answer, and as they did.

    Args:
        before: Answers to what is `asked` before anything was shipped.
        first: Digests of the first releases.
    """
    for service, texts in asked.items():
        after = await clients.ask(service, texts)
        assert {reply.release for reply in after} == {first[service]}, service
        both = list(zip(map(text_of, before[service]), map(text_of, after), strict=True))
        others = [pair for pair in both if pair[0] != pair[1]]
        assert len(others) <= OTHERWISE.get(service, 0), (service, others)


async def check_fallbacks(
    installation: Installation, clients: Clients, first: Mapping[str, str]
) -> None:
    """Another service answers for one by an action, and for one by what its probes have found."""
    found = await asyncio.to_thread(installation.control.get, list[Diversion], "diversions")
    said = [(one.service, one.release, one.fallbacks) for one in found]
    assert said == [("broken", first["broken"], (HONEST,))]
    views = await asyncio.to_thread(installation.control.get, list[ProbesView], "probes")
    assert {view.service for view in views if view.is_diverted} == {"provider"}
    for service in ("broken", "provider"):
        replies = await clients.ask(service, [text_of_question(n) for n in range(ASKED)])
        assert {reply.release for reply in replies} == {first[HONEST]}, service
        assert all("intent" in answer_of(reply) for reply in replies), service


def check_proposals(
    installation: Installation, done: Mapping[str, ActionView], first: Mapping[str, str]
) -> None:
    """Each proposal is listed with its alert, and what there is to learn from can be had."""
    control = installation.control
    wanted = sorted(name for name, one in done.items() if one.kind == "propose_retraining")
    found = sorted(control.get(list[Proposal], "proposals"), key=lambda one: one.service)
    assert [one.service for one in found] == wanted
    for one in found:
        assert (one.release, one.alert) == (first[one.service], done[one.service].alert)
        assert one.requests >= LEARN
        assert one.samples > 0
    refused = control.get(list[SampleView], "samples", service="refusing", limit=1_000)
    assert any(REFUSAL in sample.answer for sample in refused)
    cases = control.get(list[SuggestedCase], "monitors", "drifted", "cases")
    assert any(dish in case.text for dish in DISHES for case in cases), cases
