"""The interface that each store implements, by the role of the caller.

All methods are synchronous and each is one transaction: it happens as a whole or not at all.
Errors: `Unavailable` when the database is locked or does not answer (try again), `StorageFailed`
when the disk refuses, `Damaged` when the database is corrupt, `Conflict` when what is stored
contradicts what is asked, `NotFound` when the thing named is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.domain.recorded import Cursor
from fairlead.store.evaluation import EvaluationStore
from fairlead.store.intake import Feedback, Request, Sample, Warned
from fairlead.store.keys import KeyStore
from fairlead.store.probes import ProbeStore
from fairlead.store.rows import (
    AssignedRequest,
    EventRow,
    FeedbackRow,
    IngestCounts,
    JudgementRow,
    JudgeSpend,
    PairRow,
    RecordFilter,
    ReleaseFigures,
    RequestRow,
    RolloutRow,
    SampleFilter,
    SampleRow,
    SampleToJudge,
    ServiceRow,
    SpoolCursor,
)
from fairlead.store.watching import WatchStore


class RolloutStore(Protocol):
    """Services, their rollouts, and what happened to them."""

    def put_service(self, name: str, spec: bytes, at: float) -> None:
        """Make the service, or replace its spec; its champion stays."""
        ...

    def service(self, name: str) -> ServiceRow | None: ...

    def services(self) -> list[ServiceRow]:
        """By name."""
        ...

    def commit_rollout(
        self,
        rollout: RolloutRow,
        *,
        expected_version: int,
        events: Sequence[EventRow] = (),
        service: ServiceRow | None = None,
        followed_by: RolloutRow | None = None,
    ) -> None:
        """Keep the rollout with version `expected_version + 1`; 0 makes a new one.

        In the same moment the rollout's service becomes `service`, and the new rollout
        `followed_by` begins, if they are given. Raises Conflict when the stored version is another
        one, or when the service has another active rollout; NotFound when there is no such service.
        """
        ...

    def rollout(self, rollout_id: str) -> RolloutRow | None: ...

    def rollouts(
        self,
        service: str | None = None,
        *,
        active: bool | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[RolloutRow]:
        """Newest first."""
        ...

    def count_rollouts(self) -> dict[tuple[str, str], int]:
        """How many are kept, by service and state."""
        ...

    def set_champion(
        self, service: str, champion: str | None, at: float, events: Sequence[EventRow] = ()
    ) -> None:
        """Change a service's champion outside a rollout; the present one becomes its previous."""
        ...

    def add_events(self, events: Sequence[EventRow]) -> None: ...

    def events(
        self,
        service: str | None = None,
        rollout: str | None = None,
        *,
        after_id: int = 0,
        limit: int = 100,
        newest: bool = False,
    ) -> list[EventRow]:
        """Ascending by id: the first `limit` after `after_id`, or with `newest` the last."""
        ...


class TelemetryStore(Protocol):
    """Records, as the observer writes them and as judge and people read them."""

    def open_spool(self, boot: str) -> SpoolCursor:
        """The cursor of this spool, made when there is none.

        A new spool is complete until the present watermark: its worker began later than that.
        """
        ...

    def open_spools(self) -> Mapping[str, SpoolCursor]:
        """Cursors of all spools that are not closed, by boot id."""
        ...

    def ingest(
        self,
        boot: str,
        records: Sequence[Request],
        feedback: Sequence[Feedback],
        cursor: Cursor,
        warnings: Sequence[Warned] = (),
        samples: Sequence[Sample] = (),
    ) -> IngestCounts:
        """Take in what was read from a spool, together with how far it was read.

        What is there already, by its id, stays as it is. A cursor never goes back.
        """
        ...

    def watermark(self) -> float:
        """Everything that began before this time has been taken in; it never goes back.

        The least of the open spools; the greatest of the closed ones when none is open; 0.0 when
        there has been no spool.
        """
        ...

    def assigned_requests(
        self, rollout: str, *, after: float, until: float, after_id: str = "", limit: int = 10_000
    ) -> list[AssignedRequest]:
        """Clients' requests under a rollout in the order (started_at, id).

        Those with (started_at, id) beyond (after, after_id) and started_at before `until`: with
        the default `after_id` both ends form the span [after, until).
        """
        ...

    def served_requests(
        self,
        service: str,
        release: str,
        *,
        after: float,
        until: float,
        after_id: str = "",
        limit: int = 10_000,
    ) -> list[AssignedRequest]:
        """The same of clients' requests that a release of a service answered, in any rollout."""
        ...

    def units_under(
        self, rollout: str, *, phase: int, arm: str, since: float, until: float, limit: int
    ) -> list[str]:
        """Units with requests on an arm in a phase of a rollout, those of the last requests first.

        Of requests that began in [since, until).
        """
        ...

    def record(self, request_id: str) -> tuple[RequestRow, list[FeedbackRow]] | None:
        """One request with its feedback, oldest first."""
        ...

    def records(
        self,
        wanted: RecordFilter | None = None,
        *,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[RequestRow]:
        """Newest first; `before` is (started_at, id) of the last one of the page before."""
        ...

    def count_served(self, release: str, rollout: str | None = None) -> int:
        """Requests that this release answered (within the rollout) and that are still kept.

        Copies of requests, whose answers no client had, are not among them.
        """
        ...

    def shadow_pairs(
        self, rollout: str, *, after: tuple[float, str], until: float, limit: int = 5_000
    ) -> list[PairRow]:
        """The rollout's copies with their live requests, by when they were sent and by id.

        Also those that were given up before they had an outcome, on either side: what they are
        is for the judge to say, and to leave them out would be to choose by outcome.

        Args:
            after: When the last copy was sent that is known already, and its id.
            until: Copies that were sent then or later are left out.
        """
        ...

    def arm_requests(self, rollout: str, *, after: float, until: float) -> dict[str, int]:
        """Requests of a rollout by the release that they went to, copies left out.

        Those that began after `after` and no later than `until` (Unix times).
        """
        ...

    def release_figures(
        self, service: str | None = None, *, since: float, until: float
    ) -> list[ReleaseFigures]:
        """Figures of clients' requests that began in [since, until), by service and release."""
        ...

    def prune(self, before: float, *, limit: int = 5_000) -> int:
        """Delete at most `limit` each of the records and feedback from before; says how many.

        Judgements of such records go as well, a day later, and not while their rollout is active:
        budgets count them.

        Call it again until it returns 0: each call holds the database for a short time only.
        """
        ...


class SampleStore(Protocol):
    """Samples of prompts and answers, and what judge models say of them."""

    def samples(
        self,
        wanted: SampleFilter,
        *,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[SampleRow]:
        """The newest first."""
        ...

    def count_samples(self) -> dict[str, int]:
        """How many are kept, by service."""
        ...

    def delete_samples(self, wanted: SampleFilter, *, limit: int = 1_000) -> int:
        """Delete at most `limit`, with the judge's words on them; says how many.

        What is deleted is overwritten in the database's file.
        """
        ...

    def prune_samples(self, now: float, *, limit: int = 1_000) -> int:
        """The same of those that must not be kept any more."""
        ...

    def samples_of_rollout(
        self, rollout: str, *, after: float, after_id: str = "", until: float, limit: int
    ) -> list[SampleToJudge]:
        """Samples of clients' requests under a rollout, in the order (started_at, id).

        Those with (started_at, id) beyond (after, after_id) and started_at before `until`.
        """
        ...

    def samples_to_judge(
        self,
        service: str,
        release: str,
        *,
        after: tuple[float, str],
        until: float,
        limit: int,
    ) -> list[SampleToJudge]:
        """Samples of clients' requests that a release answered, in the order (at, id).

        Those beyond `after` that began before `until`, failed ones included, in rollouts and not.
        `started_at` is the sample's `at`.
        """
        ...

    def begin_judgements(self, judgements: Sequence[JudgementRow]) -> None:
        """A judge is about to be asked: one attempt more each, and the most that it can cost.

        What is settled already stays as it is.
        """
        ...

    def settle_judgements(
        self, judgements: Sequence[JudgementRow], feedback: Sequence[Feedback]
    ) -> None:
        """Keep what came of it, together with the feedback that says it; each counts once.

        A reason is kept only while the sample that it is about is.
        `usd` replaces what was kept for this attempt's most by what all attempts have cost.
        """
        ...

    def judge_spend(
        self, *, service: str | None = None, rollout: str | None = None, since: float = 0.0
    ) -> JudgeSpend:
        """What judging has cost: for a service or a rollout, since a time."""
        ...


class Store(
    RolloutStore,
    KeyStore,
    EvaluationStore,
    ProbeStore,
    TelemetryStore,
    SampleStore,
    WatchStore,
    Protocol,
):
    """Everything."""

    def close(self) -> None:
        """Let go of the database; the store cannot be used after."""
        ...
