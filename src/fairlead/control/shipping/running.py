"""A rollout under way, as control has it in memory: what its document has, and its version."""

from __future__ import annotations

import msgspec

from fairlead.control.shipping.documents import Return, RolloutDocument
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Conflict
from fairlead.domain.release import short
from fairlead.rollout.machine import Rollout, is_terminal
from fairlead.rollout.states import State
from fairlead.store.rows import RolloutRow


class Running(msgspec.Struct):
    """An active rollout in memory; `goes_back` and `then` are those of its document.

    Attributes:
        judge_lost: It was read from the store, and its judge could not be.
    """

    spec: ServiceSpec
    rollout: Rollout
    version: int
    created_at: float
    goes_back: bool = False
    then: Return | None = None
    judge_lost: bool = False

    @classmethod
    def of(cls, row: RolloutRow) -> Running:
        """The rollout that a row holds; raises Damaged."""
        document, judge_lost = read_rollout(row)
        return cls(
            document.spec, document.rollout, row.version, row.created_at, document.goes_back,
            document.then, judge_lost,
        )  # fmt: skip

    @property
    def document(self) -> RolloutDocument:
        """What the store has of it."""
        return RolloutDocument(self.spec, self.rollout, self.goes_back, self.then)

    @property
    def goes_back_to(self) -> ServiceSpec | None:
        """The spec by which the service will run, if it is on its way back."""
        if self.then is not None:
            return self.then.spec
        on_its_way = self.goes_back and self.rollout.state is not State.ROLLING_BACK
        return self.spec if on_its_way else None

    def row(
        self, rollout: Rollout, then: Return | None, now: float, *, untold: bool = False
    ) -> RolloutRow:
        """How this state of it is to be kept; `untold` while its last hooks have not settled."""
        document = RolloutDocument(self.spec, rollout, self.goes_back, then, untold)
        return RolloutRow(
            id=rollout.id,
            service=rollout.service,
            release=rollout.release,
            name=rollout.name,
            state=rollout.state.value,
            active=not is_terminal(rollout) and rollout.state is not State.QUEUED,
            created_at=self.created_at,
            updated_at=now,
            version=self.version,
            document=msgspec.json.encode(document),
        )

    def check_other_way(self, to: str | None) -> None:
        """Raises Conflict when the service is on its way back to this release already."""
        going = self.goes_back_to
        if going is None or to not in (None, going.release):
            return
        raise Conflict(
            f"{going.service}: it is going back to release {going.name} ({short(going.release)}) "
            "already",
            hint=f"follow it with `fairlead rollout follow {self.rollout.id}`, or name another "
            "former champion with --to",
        )
