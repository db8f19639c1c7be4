"""The state folder: private, locked by one `up` at a time, honest about who runs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fairlead.app.state import StatePaths, UpInfo, write_private
from fairlead.domain.errors import Conflict, StorageFailed, Unavailable


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    made = StatePaths(tmp_path / "state")
    made.create()
    return made


def test_only_the_owner_can_look_into_it(paths: StatePaths) -> None:
    assert paths.root.stat().st_mode & 0o077 == 0
    write_private(paths.token, b"secret")
    assert paths.token.stat().st_mode & 0o077 == 0


def test_what_others_could_read_is_closed(tmp_path: Path) -> None:
    """A folder made by hand, or by an earlier version."""
    paths = StatePaths(tmp_path / "state")
    for folder in (paths.root, paths.run, paths.logs, paths.registry):
        folder.mkdir()
        folder.chmod(0o755)
    log = paths.logs / "control.log"
    log.write_text("")
    log.chmod(0o644)
    paths.create()
    for path in (paths.root, paths.run, paths.logs, paths.registry, log):
        assert path.stat().st_mode & 0o077 == 0, path
    assert log.stat().st_mode & 0o700 == 0o600


def test_an_empty_folder_is_closed_and_one_with_other_things_is_refused(tmp_path: Path) -> None:
    empty, shared = tmp_path / "empty", tmp_path / "shared"
    for folder in (empty, shared):
        folder.mkdir()
        folder.chmod(0o755)
    (shared / "of-somebody").write_text("")
    StatePaths(empty).create()
    assert empty.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Conflict, match="not ours") as refused:
        StatePaths(shared).create()
    assert f"chmod 700 {shared}" in (refused.value.hint or "")
    assert shared.stat().st_mode & 0o777 == 0o755
    shared.chmod(0o700)
    StatePaths(shared).create()


def test_a_second_up_is_refused_while_the_first_runs(paths: StatePaths) -> None:
    info = UpInfo(os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:2")
    write_private(paths.up, msgspec.json.encode(info))
    with (
        paths.locked(),
        pytest.raises(Conflict, match=r"already up .*http://127.0.0.1:1"),
        StatePaths(paths.root).locked(),
    ):
        pass
    with StatePaths(paths.root).locked():
        pass


def test_addresses_left_by_an_up_that_was_killed_are_not_believed(paths: StatePaths) -> None:
    write_private(paths.up, msgspec.json.encode(UpInfo(1, "http://a", "http://b")))
    with pytest.raises(Unavailable, match="not running"):
        paths.require_up()
    with paths.locked():
        assert paths.require_up().gateway_url == "http://a"


def test_a_place_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot create the state folder"):
        StatePaths(tmp_path / "file" / "state").create()


def test_a_private_write_replaces_the_file_as_a_whole(paths: StatePaths) -> None:
    write_private(paths.up, b"first, and long")
    write_private(paths.up, b"second")
    assert paths.up.read_bytes() == b"second"
    assert [p.name for p in paths.run.iterdir() if p.name.startswith(".")] == []


def test_a_private_write_that_fails_is_a_clear_error_and_leaves_nothing(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(paths.token, b"before")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(StorageFailed, match=r"control.token: cannot be written: No space left"):
            write_private(paths.token, b"after")
    paths.up.mkdir()
    with pytest.raises(StorageFailed, match=r"up.json: cannot be written: Is a directory"):
        write_private(paths.up, b"{}")
    assert paths.token.read_bytes() == b"before"
    assert [p.name for p in paths.run.iterdir() if p.name.startswith(".")] == []


def test_a_lock_that_cannot_be_opened_is_a_clear_error(paths: StatePaths) -> None:
    paths.lock.mkdir()
    with pytest.raises(StorageFailed, match=r"up.lock"), paths.locked():
        pass


@pytest.mark.parametrize("data", [b"", b"{", b'{"pid":1,"gateway_url":"\xff"}', b"[" * 100_000])
def test_addresses_that_cannot_be_read_are_none(paths: StatePaths, data: bytes) -> None:
    write_private(paths.up, data)
    assert paths.read_up() is None
    with paths.locked(), pytest.raises(Unavailable, match="not running"):
        paths.require_up()
