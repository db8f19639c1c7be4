"""Samples of prompts and answers for people: read, which is noted, and deleted on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.control.sample_views import Deleted, SampleView
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import InvalidInput
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, SampleFilter, SampleRow

LIMIT_MAX = 1_000


class Samples:
    """Who reads or deletes samples, and how many, is an event; never what is in them.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def read(
        self, wanted: SampleFilter, limit: int, before: float | None = None
    ) -> list[SampleView]:
        """The newest first, of those that came before a time (Unix time in seconds)."""

        def read() -> list[SampleRow]:
            rows = self._store.samples(
                wanted,
                before=None if before is None else (before, ""),
                limit=max(1, min(limit, LIMIT_MAX)),
            )
            if rows:
                self._note("samples_read", f"{len(rows):,} samples were read", wanted)
            return rows

        return [_view(row) for row in await asyncio.to_thread(read)]

    async def delete(self, wanted: SampleFilter) -> Deleted:
        """Delete all of them; raises InvalidInput unless it is said which."""
        if wanted == SampleFilter():
            raise InvalidInput("say which samples: by request, service, rollout, key or unit")

        def delete() -> int:
            count = 0
            while some := self._store.delete_samples(wanted):
                count += some
            self._note("samples_deleted", f"{count:,} samples were deleted", wanted)
            return count

        return Deleted(await asyncio.to_thread(delete))

    def _note(self, kind: str, message: str, wanted: SampleFilter) -> None:
        by = ", ".join(f"{k} {v}" for k, v in msgspec.structs.asdict(wanted).items() if v)
        self._store.add_events(
            [
                EventRow(
                    self._now(), kind, f"{message}: {by}" if by else message,
                    service=wanted.service or "", rollout=wanted.rollout or "",
                )
            ]
        )  # fmt: skip


def _view(row: SampleRow) -> SampleView:
    try:
        turns = decode_json(row.prompt.encode(), list[tuple[str, str]]) if row.prompt else []
    except msgspec.DecodeError:
        turns = []
    values: dict[str, Any] = msgspec.structs.asdict(row)
    return SampleView(**{**values, "prompt": turns})
