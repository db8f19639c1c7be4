"""Keeps the snapshot up to date: asks control for a newer one, all the time.

The same calls say what was used of limits, and an answer may hold grants in a snapshot's place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fairlead.gateway.limits import (
    CONNECT_S,
    LAST_REPORT_S,
    SYNC_ANSWER_BYTES_MAX,
    SYNC_BACKOFF_S_MAX,
    SYNC_BACKOFF_S_MIN,
)
from fairlead.gateway.replicas.addressing import beginning_of, parse_base_url
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.outgoing import build_request
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.wire.quota import GRANTS_TYPE, Grant, decode_grants
from fairlead.wire.snapshot import Snapshot, SyncRequest, decode_snapshot

_log = logging.getLogger("fairlead.gateway")
_PATH = "/internal/v1/sync"
_ANSWER_GRACE_S = 5.0
GIVEN_UP_MAX = 4
"""Questions given up for newer ones in a row; the next one's answer is waited for. Or a control
that takes longer to answer than news take to come would never be heard."""


class SyncFailed(Exception):
    """Control did not give a usable answer; the present snapshot stays."""


class _Answer:
    """Takes in one answer of control."""

    def __init__(self) -> None:
        self.done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.content_type = b""
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self.on_head(head)
        self.on_body(body)
        self.on_end(is_framed=True)

    def on_head(self, head: AnswerHead) -> None:
        self._status = head.status
        self.content_type = head.content_type

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > SYNC_ANSWER_BYTES_MAX and not self.done.done():
            self.done.set_exception(SyncFailed("the snapshot is too large"))

    def on_end(self, *, is_framed: bool) -> None:
        if not self.done.done():
            self.done.set_result((self._status, b"".join(self._parts)))

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        if not self.done.done():
            self.done.set_exception(SyncFailed("the connection was lost"))


class SnapshotSync:
    """Asks control for a newer snapshot, all the time; every question says what is run on.

    Args:
        describe: What to tell control now.
        take: Called with each newer snapshot, to run on it.
        grant: Called with what each answer grants of limits, nothing included.
        keep: Called in a thread with the same, to put it on disk.
        on_failure: Called when a question was not answered.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        describe: Callable[[], SyncRequest],
        take: Callable[[Snapshot], None],
        grant: Callable[[tuple[Grant, ...]], None],
        keep: Callable[[Snapshot], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._address = parse_base_url(url)
        self._authorization = f"Bearer {token}"
        self._describe = describe
        self._take = take
        self._grant = grant
        self._keep = keep
        self._on_failure = on_failure
        self._news = asyncio.Event()
        self._connection: UpstreamConnection | None = None
        self._backoff_s = 0.0
        self._given_up = 0
        self.has_reported = asyncio.Event()
        """Set when control has answered once: it knows of this worker."""

    def hurry(self) -> None:
        """There is something to tell that cannot wait for the present question's answer."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._round()
        finally:
            self._disconnect()

    async def say_last(self) -> None:
        """Tell control, once `run` has ended, and take nothing in of what it answers.

        Without an answer within `LAST_REPORT_S`, control goes by what it was told before.
        """
        question = msgspec.structs.replace(self._describe(), wait_s=0.0)
        try:
            async with asyncio.timeout(LAST_REPORT_S):
                await self._call(question)
        except (SyncFailed, OSError, TimeoutError) as error:
            why = str(error) or "it does not answer"
            _log.info("control did not hear this worker's last report: %s", why)
        finally:
            self._disconnect()

    async def _round(self) -> None:
        self._news.clear()
        question = asyncio.ensure_future(self._ask(self._describe()))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({question, news}, return_when=asyncio.FIRST_COMPLETED)
            if not question.done() and self._given_up < GIVEN_UP_MAX:
                self._given_up += 1
                self._disconnect()  # Control's answer is awaited no longer: ask anew at once.
                return
            await question
            self._given_up = 0
            self._backoff_s = 0.0
            self.has_reported.set()
        except (SyncFailed, OSError, TimeoutError) as error:
            self._given_up = 0
            self._disconnect()
            self._on_failure()
            if self._backoff_s == 0.0:
                _log.warning("control cannot be asked for a newer snapshot: %s", error)
            self._backoff_s = min(SYNC_BACKOFF_S_MAX, max(SYNC_BACKOFF_S_MIN, self._backoff_s * 2))
            await asyncio.sleep(self._backoff_s)
        finally:
            for task in (question, news):
                task.cancel()
            await asyncio.gather(question, news, return_exceptions=True)

    async def _call(self, question: SyncRequest) -> tuple[int, bytes, bytes]:
        """Status, media type and body of control's answer."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = await self._connect()
        answer = _Answer()
        body = msgspec.json.encode(question)
        beginning = beginning_of(
            self._address,
            _PATH,
            authorization=self._authorization,
            accept="application/json",
        )
        connection.send(build_request(beginning, body, ""), answer)
        status, data = await answer.done
        return status, answer.content_type, data

    async def _ask(self, question: SyncRequest) -> None:
        async with asyncio.timeout(CONNECT_S + question.wait_s + _ANSWER_GRACE_S):
            status, content_type, data = await self._call(question)
        if status == 204:
            self._grant(())
            return
        if status != 200:
            raise SyncFailed(f"it answered {status}")
        try:
            if content_type == GRANTS_TYPE:
                self._grant(decode_grants(data).grants)
                return
            snapshot = decode_snapshot(data)
        except msgspec.DecodeError as error:
            raise SyncFailed(f"its answer is not one: {error}") from None
        if snapshot.version <= question.version:
            raise SyncFailed(f"it offers version {snapshot.version} after {question.version}")
        self._take(snapshot)
        await asyncio.to_thread(self._keep, snapshot)

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: UpstreamConnection(lambda _: None, lambda _: None),
            self._address.host,
            self._address.port,
        )
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
