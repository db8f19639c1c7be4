"""How gateway workers and control share limits between them.

A worker *holds* a part of each limit's window and never uses more of it. It begins a window with
its fair share; control moves parts that are not used to where they are asked for. All figures are
totals since the window began, so a message that is lost or sent twice does no harm.

These travel with the calls that ask for a newer snapshot (`SyncRequest.quota`): a worker reports,
and an answer of the media type `GRANTS_TYPE` holds grants in the place of a snapshot.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_json

GRANTS_TYPE = b"application/vnd.fairlead.grants+json"


class WindowUse(msgspec.Struct, frozen=True, array_like=True):
    """One worker's part in one window of one limit.

    Attributes:
        limit: Id of the limit.
        start: Unix time at which the window began; that is its name.
        held: What the worker may use in all.
        used: What it has used, reservations of open requests included; can go down again.
        demand: What it was asked for, refused requests included; only grows.
        need: What it lacks now: no more than this is of any use to it at once; 0 for nothing.
    """

    limit: str
    start: int
    held: int
    used: int
    demand: int
    need: int


class QuotaReport(msgspec.Struct, frozen=True):
    """What a worker has used.

    Attributes:
        seat: Who holds; outlives the process if the next one takes over its file.
        number: Number of the worker, which says what its fair share is.
        sequence: Grows with each report of a seat.
    """

    seat: str
    number: int
    sequence: int
    uses: tuple[WindowUse, ...] = ()


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a worker may use from now on.

    Attributes:
        held: In all, in the place of what it held before.
        left: What nobody has used yet, as far as control knows.
    """

    limit: str
    start: int
    held: int
    left: int


class Grants(msgspec.Struct, frozen=True):
    """Answer to a report."""

    grants: tuple[Grant, ...]


def decode_grants(data: bytes) -> Grants:
    """Raises `msgspec.DecodeError` (or its `ValidationError`) when these are none."""
    return decode_json(data, Grants)
