"""What the store keeps of a rollout, and the way back that its service's promotions give.

A service's promotions form a line. Shipping adds to its end; going back leaves behind everything
after the release gone back to. So going back twice goes further back, and never returns to what
was just left. All here is pure: documents go in, a spec or an error comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import Conflict, NotFound
from fairlead.domain.release import short
from fairlead.rollout.machine import Rollout
from fairlead.rollout.plan import Point

SHOWN_MAX = 5


class Return(msgspec.Struct, frozen=True):
    """A rollout that goes back to an earlier release, to begin when the one under way has ended.

    Attributes:
        rollout: The id that it will have.
    """

    rollout: str
    spec: ServiceSpec
    why: str


class RolloutDocument(msgspec.Struct, frozen=True):
    """What the store keeps of a rollout.

    Attributes:
        goes_back: It returns to an earlier release, rather than shipping one.
        then: What begins in the moment in which it ends.
        untold: It has ended, and the hooks that are told of it have not settled yet.
    """

    spec: ServiceSpec
    rollout: Rollout
    goes_back: bool = False
    then: Return | None = None
    untold: bool = False


def way_back(
    service: str, champion: str | None, promoted: Sequence[RolloutDocument], to: str | None
) -> ServiceSpec:
    """By which spec to go back: to the last champion in the line before this one, or to `to`.

    Args:
        promoted: The service's promotions, oldest first.
        to: Digest of a former champion.

    Raises:
        Conflict: There is nothing earlier, or `to` serves already.
        NotFound: `to` has never been champion.
    """
    found = _earlier(service, champion, promoted) if to is None else None
    if to is not None:
        if to == champion:
            raise Conflict(f"{service}: release {short(to)} is the champion already")
        found = next((d for d in reversed(promoted) if d.spec.release == to), None)
    if found is None:
        raise NotFound(
            f"{service}: release {short(to or '')} has never been its champion",
            hint=_former(promoted, champion) or "see `fairlead rollout list`",
        )
    plan = found.spec.plan
    # Nothing that could refuse it or hold it up; who is told of an end is told of this one, too.
    told = tuple(
        msgspec.structs.replace(hook, at=(Point.AFTER,))
        for hook in plan.hooks
        if Point.AFTER in hook.at
    )
    plan = msgspec.structs.replace(
        plan, steps=(), shadow=None, hooks=told, approve_promotion=False, warm_s=0.0, holdback=0.0,
        finish_s=0.0, suites=(),
        # Traffic that has become harder would else lead through all releases there ever were.
        revert=False,
    )  # fmt: skip
    return msgspec.structs.replace(found.spec, plan=plan, gates=())


def previous_of(release: str, promoted: Iterable[RolloutDocument]) -> str | None:
    """What is the next to go back to, once the service has gone back to this release."""
    line = _before(_line(promoted), release)
    return line[-1].spec.release if line else None


def _earlier(
    service: str, champion: str | None, promoted: Sequence[RolloutDocument]
) -> RolloutDocument:
    line = _line(promoted)
    if len(line) < 2:
        raise Conflict(
            f"{service}: there is no earlier release to go back to",
            hint=_former(promoted, champion),
        )
    return line[-2]


def _line(promoted: Iterable[RolloutDocument]) -> list[RolloutDocument]:
    """The promotions on which the champion stands, its own at the end."""
    line: list[RolloutDocument] = []
    for document in promoted:
        if document.goes_back:
            line = _before(line, document.spec.release)
        line.append(document)
    return line


def _before(line: list[RolloutDocument], release: str) -> list[RolloutDocument]:
    """The line up to the release's last promotion; all of it if the release was left behind."""
    for index in reversed(range(len(line))):
        if line[index].spec.release == release:
            return line[:index]
    return line


def _former(promoted: Iterable[RolloutDocument], champion: str | None) -> str | None:
    """Which releases can be named, the newest last."""
    names = {d.spec.release: d.spec.name for d in promoted if d.spec.release != champion}
    shown = [f"{name} ({short(digest)})" for digest, name in names.items()][-SHOWN_MAX:]
    return f"name a former champion with --to: {', '.join(shown)}" if shown else None
