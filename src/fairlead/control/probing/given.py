"""What an answer to a probe says for the comparison."""

from __future__ import annotations

from fairlead.control.outside.ask import Completion
from fairlead.control.shipping.spec import ProbeSpec
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.domain.quota import Price
from fairlead.evaluation.cases import Case
from fairlead.evaluation.scorers import CannotScore, Scorer, score
from fairlead.probing.course import digest_of_text
from fairlead.probing.model import TEXT_MAX, Given

NO_ANSWER = frozenset({401, 402, 403, 404, 407, 408, 409, 425, 429})
"""Statuses below 500 that say something of the account or the moment, and nothing of the model."""
PICODOLLARS = 1e12


def given_of(completion: Completion, case: Case, probes: ProbeSpec, price: Price | None) -> Given:
    """What an answer says for the comparison; raises Unavailable when it is none.

    That a model refuses what it took before is a change, and so an answer.
    """
    status, text = completion.status, completion.text
    if status in NO_ANSWER or not (status == 200 or 400 <= status < 500):
        raise Unavailable(text)
    if status != 200:
        text = f"[refused with status {status}]"
    points = None
    if probes.scorer is not None and case.expected is not None:
        points = 0.0 if status != 200 else _points(probes.scorer, case, text)
    cost = 0.0
    if price is not None:
        cost = price.cost(completion.prompt_tokens, completion.completion_tokens) / PICODOLLARS
    return Given(
        said=digest_of_text(text),
        text=text[:TEXT_MAX].encode(errors="replace").decode(),
        chars=len(text),
        score=points,
        model=completion.model,
        fingerprint=completion.fingerprint,
        tokens=completion.prompt_tokens + completion.completion_tokens,
        usd=cost,
    )


def _points(scorer: Scorer, case: Case, text: str) -> float:
    try:
        return score(scorer, text, case.expected).value
    except CannotScore as error:
        raise InvalidInput(f"probe {case.id} cannot be scored: {error}") from None
