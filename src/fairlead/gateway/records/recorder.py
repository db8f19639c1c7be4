"""Records: durable before the answer's last bytes leave.

Records of one turn of the event loop are gathered and written at its end with one `write`; only
then is each answer completed. A worker killed at any moment has therefore recorded every answer
that it delivered (the page cache outlives the process).

While the spool cannot be written, answers go out all the same; records wait in memory up to a
bound, and `complete_until` waits with them. Beyond the bound the oldest are lost, and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import PROGRESS_EVERY_S, RECORD_BACKLOG_BYTES_MAX
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.spool import Spool
from fairlead.wire.record import ProgressRecord, Record, RequestRecord, encode_record
from fairlead.wire.spool import frame

OnTraced = Callable[[Sequence[RequestRecord]], None]
_log = logging.getLogger("fairlead.gateway")
_LOG_EVERY_S = 10.0


class Recorder:
    """Knows what is open, writes what is finished, and says how far the spool is complete."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        metrics: GatewayMetrics,
        *,
        backlog_bytes_max: int = RECORD_BACKLOG_BYTES_MAX,
        on_traced: OnTraced | None = None,
    ) -> None:
        """
        Args:
            on_traced: Is given the records of requests that are traced; must not wait.
        """
        self._on_traced = on_traced
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._backlog_bytes_max = backlog_bytes_max
        self._loop = asyncio.get_running_loop()
        # In order of start, which is also the order of start times: the first is the oldest.
        self._open: dict[object, float] = {}
        # What waits to be written, and in the same order what each of it is about.
        self._frames: deque[bytes] = deque()
        self._tokens: deque[object] = deque()
        self._frame_bytes = 0
        self._deliveries: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._is_failing = False
        self._logged_at = float("-inf")
        self._ticker: asyncio.TimerHandle | None = None
        self.lost = 0
        """Records that were lost so far."""

    def start(self) -> None:
        """Begin to write progress records."""
        self._tick()

    def opened(self, token: object, now: float | None = None) -> float:
        """Something that will be recorded begins; returns its start as Unix time in seconds.

        Args:
            now: The present, in monotonic seconds; the clock is asked if it is not given.
        """
        clock = self._clock
        started_at = clock.as_wall(clock.now() if now is None else now)
        self._open[token] = started_at
        return started_at

    def dropped(self, token: object) -> None:
        """What was opened ends without a record."""
        self._open.pop(token, None)

    def finish(self, token: object, record: Record, deliver: Callable[[], None]) -> None:
        """Write the record at the end of this turn, and call `deliver` after that."""
        self._deliveries.append(deliver)
        if self._on_traced is not None and isinstance(record, RequestRecord) and record.trace:
            self._on_traced([record])
        if self._spool.keeps:
            data = frame(encode_record(record))
            self._frames.append(data)
            self._tokens.append(token)
            self._frame_bytes += len(data)
        else:
            self._open.pop(token, None)
        if not self._is_scheduled:
            self._schedule()

    @property
    def keeps_records(self) -> bool:
        """Whether what is finished is written anywhere."""
        return self._spool.keeps

    @property
    def open_count(self) -> int:
        """How many requests are open."""
        return len(self._open)

    @property
    def unwritten(self) -> int:
        """How many records wait, since the spool cannot be written."""
        return len(self._frames) if self._is_failing else 0

    def close(self) -> None:
        """Write what is left and close the spool."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._flush()
        self._write()
        if not self._frames:
            self._write_progress()
        self._lose(len(self._frames))
        self._spool.close()

    def _flush(self) -> None:
        self._is_scheduled = False
        # While the disk refuses, only the ticker tries again: not each request.
        if not self._is_failing:
            self._write()
        self._bound_backlog()
        deliveries, self._deliveries = iter(self._deliveries), []
        try:
            for deliver in deliveries:
                deliver()
        finally:
            left = list(deliveries)
            if left:  # One broke: the others are to be answered all the same.
                self._deliveries[:0] = left
                self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _write(self) -> None:
        if not self._frames:
            return
        data = b"".join(self._frames)
        try:
            self._spool.write(data)
        except OSError as error:
            self._failed(error)
            return
        self._is_failing = False
        self._metrics.spool_records.inc((), len(self._frames))
        self._metrics.spool_bytes.inc((), len(data))
        done = self._open.pop
        for token in self._tokens:
            done(token, None)
        self._frames.clear()
        self._tokens.clear()
        self._frame_bytes = 0

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(PROGRESS_EVERY_S, self._tick)
        self._write()
        if not self._frames:
            self._write_progress()

    def _write_progress(self) -> None:
        if not self._spool.keeps:
            return
        now = self._clock.wall()
        complete_until = next(iter(self._open.values()), now)
        progress = ProgressRecord(at=now, complete_until=complete_until)
        try:
            self._spool.write(frame(encode_record(progress)))
        except OSError as error:
            self._failed(error)
        else:
            self._is_failing = False

    def _failed(self, error: OSError) -> None:
        self._is_failing = True
        self._metrics.spool_write_errors.inc(())
        now = self._clock.now()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.error("the spool cannot be written: %s", error.strerror)

    def _bound_backlog(self) -> None:
        excess = self._frame_bytes - self._backlog_bytes_max
        count = 0
        for data in self._frames:
            if excess <= 0:
                break
            excess -= len(data)
            count += 1
        self._lose(count)

    def _lose(self, count: int) -> None:
        for _ in range(count):
            self._frame_bytes -= len(self._frames.popleft())
            self._open.pop(self._tokens.popleft(), None)
        self.lost += count
        if count:
            self._metrics.spool_lost.inc((), count)
