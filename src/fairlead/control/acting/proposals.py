"""Proposals to train a model anew, each with what there is to learn from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from fairlead.control.documents import read_all
from fairlead.store.interface import Store

PROPOSALS_MAX = 100
FIGURES_S_MAX = 7 * 86_400.0
"""Figures of requests go back so far at most: they are read from the records."""

PROPOSAL = "proposal"
"""Kind of the documents."""


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a release's model should learn, and from what.

    Attributes:
        at: Unix time in seconds.
        release: Digest of the release that serves.
        alert: Fingerprint of the alert; `why` says it in words.
        policy: The action's policy.
        since: Unix time from which on requests and feedback are counted.
        requests, errors: Of the release since then.
        feedback: How often each feedback was given on them, by name; `means` are its mean values.
        samples: Prompts and answers of the service that are kept now.
        commands: How to get at them.
    """

    id: str
    at: float
    service: str
    release: str
    alert: str
    policy: str
    why: str
    since: float
    requests: int = 0
    errors: int = 0
    feedback: dict[str, int] = {}
    means: dict[str, float] = {}
    samples: int = 0
    commands: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """`a new training is proposed: 120 samples, 40 values of success on 900 requests`."""
        given = ", ".join(f"{n:,} values of {name}" for name, n in sorted(self.feedback.items()))
        return (
            f"a new training is proposed: {self.samples:,} samples are kept, "
            f"{given or 'no feedback'} on {self.requests:,} requests"
        )


class Proposals:
    """All proposals that are kept, the last `PROPOSALS_MAX` ones.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def all(self, service: str | None = None) -> list[Proposal]:
        """The newest first."""
        found = await asyncio.to_thread(read_all, self._store, PROPOSAL, Proposal)
        chosen = [one for one in found.values() if service in (None, one.service)]
        return sorted(chosen, key=lambda one: (-one.at, one.id))

    async def add(self, asked: Proposal, serves_since: float) -> Proposal:
        """Keep it with what there is to learn from; the same id is kept once.

        Args:
            asked: Without the figures.
            serves_since: Unix time since which the release serves.
        """
        return await asyncio.to_thread(self._add, asked, serves_since)

    def _add(self, asked: Proposal, serves_since: float) -> Proposal:
        known = read_all(self._store, PROPOSAL, Proposal)
        if asked.id in known:
            return known[asked.id]
        made = self._with_figures(asked, serves_since)
        old = sorted(known.values(), key=lambda one: (one.at, one.id))
        gone = old[: max(0, len(old) + 1 - PROPOSALS_MAX)]
        self._store.commit_documents(
            {(PROPOSAL, made.id): msgspec.json.encode(made)}, [(PROPOSAL, one.id) for one in gone]
        )
        return made

    def _with_figures(self, asked: Proposal, serves_since: float) -> Proposal:
        now = self._now()
        since = max(serves_since, now - FIGURES_S_MAX)
        read = self._store.release_figures(asked.service, since=since, until=now)
        lines = [line for line in read if line.release == asked.release]
        return msgspec.structs.replace(
            asked,
            since=since,
            requests=sum(line.requests for line in lines),
            errors=sum(line.errors for line in lines),
            feedback={name: of.count for line in lines for name, of in line.feedback.items()},
            means={name: of.mean for line in lines for name, of in line.feedback.items()},
            samples=self._store.count_samples().get(asked.service, 0),
            commands=(
                f"fairlead samples list --service {asked.service} --limit 1000 --json",
                f"fairlead records --service {asked.service} --release {asked.release} --json",
            ),
        )
