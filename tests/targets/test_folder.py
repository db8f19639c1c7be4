"""The folder of a replica: its record may be damaged, its output is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.targets import LocalTarget
from fairlead.targets.folder import LOG_BYTES_MAX, ReplicaFolder


def test_a_long_output_is_cut_at_its_beginning_while_the_process_goes_on_writing(
    tmp_path: Path,
) -> None:
    folder = ReplicaFolder(tmp_path)
    with folder.log.open("ab", buffering=0) as output:
        for number in range(30_000):
            output.write(b"line %06d of much output, all of it the same\n" % number)
        assert folder.log.stat().st_size > LOG_BYTES_MAX
        folder.bound_log()
        assert folder.log.stat().st_size < LOG_BYTES_MAX / 2
        output.write(b"the last line\n")
    lines = folder.log.read_text().splitlines()
    assert lines[-2:] == ["line 029999 of much output, all of it the same", "the last line"]
    assert lines[0].startswith("line ")
    assert len(folder.tail().splitlines()) == 20


@pytest.mark.parametrize("data", [b"", b"\xff", b'{"supervisor":"\xff"}', b"[" * 100_000, b"{}"])
async def test_a_damaged_record_of_a_replica_is_cleared_away(tmp_path: Path, data: bytes) -> None:
    """Control starts, whatever a disk has done to one file."""
    damaged = tmp_path / "aaaa-1"
    damaged.mkdir()
    (damaged / "state.json").write_bytes(data)
    odd = tmp_path / "aaaa-2"
    (odd / "state.json").mkdir(parents=True)
    target = LocalTarget(tmp_path, supervisor_pid=None, environ={})
    await target.adopt()
    assert target.replicas() == []
    assert not damaged.exists()
    assert not odd.exists()
    await target.close(stop=True)
