"""Records: written before the answer leaves, and never claimed when they are not."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import msgspec
import pytest
from gateway_rig import A, read_spool, until

from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import PROGRESS_EVERY_S
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.records.spool import SpoolWriter
from fairlead.wire.record import FeedbackRecord, ProgressRecord, RequestRecord
from fairlead.wire.spool import ALIVE_FILE, MAGIC, frames

RECORD = RequestRecord(
    id="r",
    service="bank",
    release=A,
    arm="champion",
    replica="r1",
    key="k",
    unit="u",
    rho=0.0,
    rollout="",
    phase=0,
    endpoint="completions",
    stream=False,
    status=200,
    error="",
    started_at=0.0,
    ttft_ms=1.0,
    itl_ms=-1.0,
    duration_ms=1.0,
    prompt_tokens=1,
    completion_tokens=1,
    attempts=1,
)


def record(number: int) -> RequestRecord:
    return msgspec.structs.replace(RECORD, id=f"r{number}")


class Disk:
    """A spool whose disk can be full."""

    keeps = True

    def __init__(self, folder: Path) -> None:
        self._spool = SpoolWriter(folder)
        self.is_full = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes += 1
        self._spool.write(data)

    def close(self) -> None:
        self._spool.close()


class Moments:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.at, wall=lambda: 1_000_100.0)


async def test_records_of_one_turn_are_one_write_before_any_delivery(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "s" / "b")
    recorder = Recorder(disk, Clock(), GatewayMetrics())
    seen: list[int] = []
    for number in range(5):
        token = object()
        recorder.opened(token)
        recorder.finish(token, record(number), lambda: seen.append(len(read_spool(tmp_path / "s"))))
    assert seen == []
    await until(lambda: len(seen) == 5)
    assert seen == [5] * 5
    assert disk.writes == 1
    assert recorder.open_count == 0
    recorder.close()


async def test_progress_never_claims_more_than_was_recorded(tmp_path: Path) -> None:
    moments = Moments()
    recorder = Recorder(SpoolWriter(tmp_path / "s" / "b"), moments.clock(), GatewayMetrics())

    def claimed() -> float:
        recorder._tick()
        assert recorder._ticker is not None
        recorder._ticker.cancel()
        last = read_spool(tmp_path / "s")[-1]
        assert isinstance(last, ProgressRecord)
        assert last.at == 1_000_000.0 + moments.at
        return last.complete_until - 1_000_000.0

    assert claimed() == 100.0
    first, second = object(), object()
    assert recorder.opened(first) == 1_000_100.0
    moments.at = 101.0
    recorder.opened(second)
    moments.at = 102.0
    assert claimed() == 100.0
    done: list[bool] = []
    recorder.finish(first, record(1), lambda: done.append(True))
    await until(lambda: bool(done))
    assert claimed() == 101.0
    recorder.dropped(second)
    assert claimed() == 102.0
    recorder.close()


async def test_on_a_full_disk_answers_go_out_and_records_follow_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "s" / "b")
    metrics = GatewayMetrics()
    recorder = Recorder(disk, Clock(), metrics)
    disk.is_full = True
    delivered: list[int] = []
    for number in range(10):
        token = object()
        recorder.opened(token)
        recorder.finish(token, record(number), lambda: delivered.append(1))
        await until(lambda number=number: len(delivered) == number + 1)  # type: ignore[misc]
    assert recorder.open_count == recorder.unwritten == 10
    assert caplog.text.count("cannot be written") == 1
    disk.is_full = False
    recorder.start()
    ids = [r.id for r in read_spool(tmp_path / "s") if isinstance(r, RequestRecord)]
    assert ids == [f"r{n}" for n in range(10)]
    assert recorder.open_count == recorder.unwritten == recorder.lost == 0
    assert metrics.spool_lost.get() == 0
    assert metrics.spool_records.get() == 10
    recorder.close()


async def test_what_does_not_fit_the_backlog_is_lost_and_counted(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "s" / "b")
    metrics = GatewayMetrics()
    recorder = Recorder(disk, Clock(), metrics, backlog_bytes_max=1000)
    disk.is_full = True
    delivered: list[int] = []
    for number in range(50):
        token = object()
        recorder.opened(token)
        recorder.finish(token, record(number), lambda: delivered.append(1))
    await until(lambda: len(delivered) == 50)
    lost = metrics.spool_lost.get()
    assert 0 < lost < 50
    assert (recorder.lost, recorder.unwritten) == (lost, 50 - lost)
    disk.is_full = False
    recorder.close()
    ids = [r.id for r in read_spool(tmp_path / "s") if isinstance(r, RequestRecord)]
    assert ids == [f"r{n}" for n in range(int(lost), 50)]


def test_segments_rotate_and_read_back_in_order(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "b", segment_bytes_max=200)
    for number in range(20):
        spool.write(bytes([number]) * 60)
    spool.close()
    segments = sorted((tmp_path / "b").glob("*.seg"))
    assert [s.name for s in segments[:2]] == ["00000001.seg", "00000002.seg"]
    assert all(s.stat().st_size <= 200 for s in segments)
    content = b"".join(s.read_bytes().removeprefix(MAGIC) for s in segments)
    assert content == b"".join(bytes([n]) * 60 for n in range(20))


def test_a_batch_that_the_disk_cut_short_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = SpoolWriter(tmp_path / "b")
    spool.write(b"first")
    real = os.write
    left = [3]

    def short(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "full")
        size, left[0] = left[0], 0
        return real(descriptor, bytes(data)[:size])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="full"):
        spool.write(b"second")
    monkeypatch.setattr(os, "write", real)
    spool.write(b"third")
    spool.close()
    assert (tmp_path / "b" / "00000001.seg").read_bytes() == MAGIC + b"first"
    assert (tmp_path / "b" / "00000002.seg").read_bytes() == MAGIC + b"third"


def test_the_folder_appears_with_its_lock_held_and_is_free_after_close(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "b")
    spool.write(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    descriptor = os.open(tmp_path / "b" / ALIVE_FILE, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    spool.close()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("in the way")
    spool = SpoolWriter(tmp_path / "s" / "b")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        spool.write(b"x")
    (tmp_path / "s").unlink()
    spool.write(b"x")
    spool.close()
    data = (tmp_path / "s" / "b" / "00000001.seg").read_bytes()
    assert list(frames(data, len(MAGIC))) == []


def test_wall_time_does_not_jump_when_the_system_clock_does() -> None:
    wall = [1000.0]
    monotonic = [5.0]
    clock = Clock(monotonic=lambda: monotonic[0], wall=lambda: wall[0])
    before = clock.wall()
    wall[0], monotonic[0] = 500.0, 6.0
    assert clock.wall() == before + 1.0
    assert clock.as_wall(5.0) == before


async def test_progress_is_written_about_twice_a_second(tmp_path: Path) -> None:
    recorder = Recorder(SpoolWriter(tmp_path / "s" / "b"), Clock(), GatewayMetrics())
    recorder.start()
    await until(lambda: len(read_spool(tmp_path / "s")) == 3, within_s=3 * PROGRESS_EVERY_S)
    progress = [r for r in read_spool(tmp_path / "s") if isinstance(r, ProgressRecord)]
    assert len(progress) == 3
    assert progress[0].at < progress[1].at < progress[2].at
    recorder.close()


async def test_feedback_goes_the_same_way(tmp_path: Path) -> None:
    recorder = Recorder(SpoolWriter(tmp_path / "s" / "b"), Clock(), GatewayMetrics())
    token = object()
    at = recorder.opened(token)
    given = FeedbackRecord(id="f", request="r", key="k", name="success", value=1.0, at=at)
    recorder.finish(token, given, lambda: None)
    recorder.close()
    assert given in read_spool(tmp_path / "s")
