"""A build that fails, is interrupted or killed changes nothing; builds at once all succeed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.domain.errors import StorageFailed
from fairlead.registry import BuildInput, Registry
from registry.model_writer import Tensor, gguf, safetensors, write

Given = Callable[..., BuildInput]
BUILD = """
    import sys, time
    from pathlib import Path
    from fairlead.domain.errors import FairleadError
    from fairlead.domain.release import Engine, Prompt
    from fairlead.registry import BuildInput, Registry

    root, model, name = sys.argv[1:4]
    given = BuildInput(
        model=model, engine=Engine("llama.cpp"), prompt=Prompt(system=name), sampling={},
        name=name, service="bank",
    )
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in a process of its own."""
    text = textwrap.dedent(BUILD) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def large(path: Path, megabytes: int, fill: bytes = b"\1") -> Path:
    """A sound model of so many megabytes."""
    return write(path, gguf(tensors=[Tensor(shape=(1024, 1024 * megabytes), kind=8)], fill=fill))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def all_files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("lock", "index.lock")
    }


def test_a_model_larger_than_the_disk_is_refused_before_it_is_copied(
    small_disk: Path, tmp_path: Path, given: Given
) -> None:
    registry = Registry(small_disk / "registry")
    kept = registry.build(given(), now=1.0)
    before = all_files(small_disk)
    told: list[int] = []
    with pytest.raises(
        StorageFailed, match=r"3,\d{3},\d{3} bytes are needed, \d,\d{3},\d{3} are free"
    ):
        registry.build(
            given(model=large(tmp_path / "large.gguf", 3)),
            now=2.0,
            progress=lambda name, done, total: told.append(done),
        )
    assert told == []
    assert all_files(small_disk) == before
    assert registry.list() == [kept]


def test_a_disk_that_fills_up_while_copying_leaves_nothing_behind(
    small_disk: Path, tmp_path: Path, given: Given
) -> None:
    """Someone else takes the room after the copy has begun; the system says ENOSPC."""
    registry = Registry(small_disk / "registry")
    write(tmp_path / "m" / "model.safetensors", safetensors())
    write(tmp_path / "m" / "config.json", b'{"a": "' + b"x" * 1_500_000 + b'"}')
    registry.build(given(), now=1.0)
    before = all_files(small_disk / "registry")

    def fill_up(name: str, done: int, total: int) -> None:
        if name == "model.safetensors":
            write(small_disk / "filler", bytes(1_000_000))

    with pytest.raises(StorageFailed, match="No space left on device") as caught:
        registry.build(given(model=tmp_path / "m"), now=2.0, progress=fill_up)
    assert "nothing was changed" in str(caught.value.hint)
    assert all_files(small_disk / "registry") == before
    assert registry.verify() == []
    (small_disk / "filler").unlink()
    assert registry.build(given(model=tmp_path / "m"), now=3.0)


@pytest.mark.parametrize("room", [2_000, 200_000, 800_000])
def test_a_limit_on_file_size_leaves_nothing_behind(
    room: int, tmp_path: Path, registry: Registry, given: Given, root: Path
) -> None:
    """The system refuses a write (EFBIG) in the middle of the model, whatever the file system."""
    kept = registry.build(given(), now=1.0)
    before = all_files(root)
    process = start(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        try:
            Registry(Path(root)).build(given, now=2.0)
        except FairleadError as error:
            print(type(error).__name__, error)
        """,
        root,
        large(tmp_path / "large.gguf", 1),
        "b",
    )
    out, err = process.communicate(timeout=30)
    assert out.startswith("StorageFailed not enough room"), err
    assert "bytes are needed" in out
    assert all_files(root) == before
    assert registry.list() == [kept]


def test_an_index_that_cannot_be_written_leaves_no_blob(
    registry: Registry, given: Given, root: Path, model: Path, tmp_path: Path
) -> None:
    """The blobs are small enough for the limit, the index, being written last, is not."""
    for number in range(8):
        registry.build(given(name=f"n{number}"), now=1.0)
    before = all_files(root)
    limit = (root / "index.json").stat().st_size
    small = write(tmp_path / "small.gguf", gguf(fill=b"\3"))
    assert small.stat().st_size < limit
    process = start(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            Registry(Path(root)).build(given, now=2.0)
        except FairleadError as error:
            print(type(error).__name__)
        """,
        root,
        small,
        "b",
    )
    out, err = process.communicate(timeout=30)
    assert out == "StorageFailed\n", err
    assert all_files(root) == before


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, registry: Registry, given: Given, root: Path
) -> None:
    before = all_files(root)

    def interrupt(name: str, done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    # A shell that starts the tests in the background has them ignore SIGINT.
    before_us = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            registry.build(given(model=large(tmp_path / "l.gguf", 2)), now=1.0, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before_us)
    assert all_files(root) == before
    assert list((root / "fairlead" / "staging").iterdir()) == []


def test_a_build_killed_in_the_middle_can_be_repeated(
    tmp_path: Path, registry: Registry, given: Given, root: Path
) -> None:
    model = large(tmp_path / "large.gguf", 3)
    kept = registry.build(given(), now=1.0)
    process = start(
        """
        def wait(name, done, total):
            print("copying", flush=True)
            time.sleep(60)

        Registry(Path(root)).build(given, now=2.0, progress=wait)
        """,
        root,
        model,
        "b",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "copying\n"
    process.kill()
    process.communicate(timeout=10)
    assert registry.verify() == []
    assert registry.list() == [kept]
    built = registry.build(given(model=model, name="b"), now=3.0)
    report = registry.gc([kept.digest, built.digest])
    assert len(report.leftovers) == 1
    assert report.bytes_freed > 1_000_000
    assert registry.verify() == []
    assert registry.list() == [kept, built]


def test_builds_killed_at_any_moment_leave_a_sound_registry(
    registry: Registry, given: Given, root: Path, tmp_path: Path
) -> None:
    """A process builds release after release and is killed at moments spread over its work.

    It removes the weights, which all of them share, after each, so that they are copied again.
    """
    model = large(tmp_path / "large.gguf", 1)
    for attempt in range(4):
        process = start(
            """
            registry = Registry(Path(root))
            print("ready", flush=True)
            for number in range(10_000):
                given = BuildInput(
                    model=model, engine=Engine("llama.cpp"), prompt=Prompt(system=name),
                    sampling={"seed": number}, name=f"{name}.{number}", service="bank",
                )
                print(registry.build(given, now=float(number)).digest, flush=True)
                for path in registry.weights(registry.resolve(given.name)):
                    path.unlink()
            """,
            root,
            model,
            f"run{attempt}",
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.037 * attempt)
        process.kill()
        out, _ = process.communicate(timeout=10)
        listed = {tag.digest for tag in registry.tags()}
        acknowledged = out.splitlines()
        whole = acknowledged if out.endswith("\n") else acknowledged[:-1]
        assert set(whole) <= listed
        kept = registry.build(given(model=model), now=1.0)
        assert registry.verify() == []
        registry.gc([kept.digest], grace_s=-1.0)
        assert registry.verify() == []
        assert len(registry.list()) == 1


def test_processes_that_build_at_once_all_succeed(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    """The same and different weights, the same and different releases, one registry."""
    models = [large(tmp_path / f"{fill}.gguf", 1, bytes([fill])) for fill in (1, 2)]
    code = """
        registry = Registry(Path(root))
        sys.stdin.readline()
        for again in range(5):
            entry = registry.build(given, now=float(again))
            registry.weights(entry.digest)
        print(entry.digest)
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BUILD) + textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in (
            (str(root), str(models[0]), "same"),
            (str(root), str(models[0]), "same"),
            (str(root), str(models[0]), "other"),
            (str(root), str(models[1]), "same"),
        )
    ]
    digests = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [(process, *process.communicate(timeout=60)) for process in processes]
    for process, out, err in ended:
        assert process.returncode == 0, err
        digests.append(out.strip())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert {tag.digest for tag in registry.tags()} == set(digests)
    assert registry.verify() == []
    assert list((root / "fairlead" / "staging").iterdir()) == []


def test_processes_that_open_a_new_registry_at_once_all_succeed(tmp_path: Path) -> None:
    root = tmp_path / "new"
    code = "Registry(Path(root)).put_blob(name.encode(), 'text/plain')"
    processes = [start(code, root, "-", f"n{number}") for number in range(4)]
    ended = [(process, process.communicate(timeout=30)[1]) for process in processes]
    for process, err in ended:
        assert process.returncode == 0, err
    registry = Registry(root)
    assert registry.verify() == []
    assert registry.gc([], grace_s=-1.0).blobs != ()


def test_a_name_that_cannot_be_given_takes_the_others_back(
    registry: Registry, given: Given, root: Path, tmp_path: Path
) -> None:
    """The second file's place is taken by a folder, so renaming fails after the first is named."""
    write(tmp_path / "m" / "model.safetensors", safetensors())
    config = write(tmp_path / "m" / "config.json", b'{"a":1}')
    taken = root / "blobs" / "sha256" / hashlib.sha256(config.read_bytes()).hexdigest()
    taken.mkdir()
    before = all_files(root)
    with pytest.raises(StorageFailed, match="Is a directory"):
        registry.build(given(model=config.parent), now=1.0)
    assert all_files(root) == before
    taken.rmdir()
    assert registry.build(given(model=config.parent), now=2.0)
