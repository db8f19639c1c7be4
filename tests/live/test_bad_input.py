"""Bad input of every kind gives one clear error, the right exit code, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.installation import BANKING, Installation, running
from support.load import Connection, Reply

pytestmark = [pytest.mark.live]

SPACE = 2_000_000
"""Bytes that a file may grow to where the disk is full: fewer than a model has."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with release a of the example as champion."""
    with running(tmp_path_factory.mktemp("up") / "state") as made:
        made.make_key()
        view = made.ship(made.spec("a", lambda m: m.model_copy(update={"gates": ()})))
        assert made.finish(view.id).outcome == "promoted"
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example to spoil."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    shutil.copy(BANKING / "suite.csv", folder)
    shutil.copy(BANKING / "models" / "b.gguf", folder / "models")
    shutil.copy(BANKING / "release-b.yaml", folder / "fairlead.yaml")
    return folder


def fairlead(
    project: Path, up: Installation, *arguments: str, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "fairlead", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "FAIRLEAD_STATE": str(up.paths.root), "COLUMNS": "200"},
        preexec_fn=before,
    )


def edit(project: Path, old: str, new: str) -> None:
    """Change the manifest."""
    file = project / "fairlead.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def break_yaml(project: Path) -> None:
    edit(project, "service: banking", "service: [banking")


def unknown_key(project: Path) -> None:
    edit(project, "minimum: ", "minimun: ")


def wrong_type(project: Path) -> None:
    edit(project, "context: 1024", "context: plenty")


def missing_model(project: Path) -> None:
    (project / "models" / "b.gguf").unlink()


def missing_suite(project: Path) -> None:
    (project / "suite.csv").unlink()


def broken_suite(project: Path) -> None:
    (project / "suite.csv").write_text("question,answer\nhi,there\n")


def truncated_gguf(project: Path) -> None:
    model = project / "models" / "b.gguf"
    model.write_bytes(model.read_bytes()[:-1000])


def pickled_model(project: Path) -> None:
    (project / "models" / "b.gguf").write_bytes(pickle.dumps({"weights": [1.0]}))


MISTAKES: list[tuple[Callable[[Path], None], str]] = [
    (break_yaml, "fairlead.yaml:"),
    (unknown_key, "minimum"),
    (wrong_type, "context"),
    (missing_model, "models/b.gguf"),
    (missing_suite, "suite.csv"),
    (broken_suite, "suite.csv"),
    (truncated_gguf, "b.gguf"),
    (pickled_model, "pickle"),
]


@pytest.mark.parametrize(("spoil", "named"), MISTAKES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_mistake_in_the_project_is_told_plainly_and_changes_nothing(
    up: Installation, project: Path, spoil: Callable[[Path], None], named: str
) -> None:
    """Exit code 2, one message that names the place, no traceback, nothing in the registry."""
    spoil(project)
    before = everything_in(up.paths.registry), up.status().services
    done = fairlead(project, up, "ship")
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    after = up.status().services
    assert everything_in(up.paths.registry) == before[0]
    assert [(s.champion, s.canary) for s in after] == [(s.champion, s.canary) for s in before[1]]


def test_a_full_disk_while_building_leaves_the_registry_as_it_was(
    up: Installation, project: Path
) -> None:
    """A write that the system refuses half-way ends with exit code 9, and no partial blob."""
    model = project / "models" / "b.gguf"
    # The same file with one more byte of weights is a release that is not there yet.
    edit(project, "temperature: 0", "temperature: 0.5")
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    space = min(SPACE, len(data) // 2)
    before = everything_in(up.paths.registry)
    done = fairlead(
        project, up, "release", "build",
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (space, space)),
    )  # fmt: skip
    assert done.returncode == 9, done.stderr
    assert "Traceback" not in done.stderr
    assert everything_in(up.paths.registry) == before


def test_a_taken_port_is_named(up: Installation, tmp_path: Path) -> None:
    """`up` on a port in use ends with exit code 5 and says which."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = fairlead(
            tmp_path, up, "up", "--state", str(tmp_path / "other"), "--port", str(port),
            "--control-port", "0",
        )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_up_on_the_same_state_is_refused(up: Installation, tmp_path: Path) -> None:
    """It ends with exit code 7, and the first one serves on."""
    done = fairlead(tmp_path, up, "up", "--port", "0", "--control-port", "0")
    assert done.returncode == 7, done.stderr
    assert "already up" in done.stderr
    assert up.status().services[0].champion is not None


def test_what_is_not_there_is_told(up: Installation, tmp_path: Path) -> None:
    """Unknown rollouts, releases, keys and services have exit code 6."""
    for arguments in (
        ("rollout", "show", "ro-none"), ("release", "show", "deadbeef"),
        ("keys", "revoke", "nobody"), ("rollback", "nothing"),
    ):  # fmt: skip
        done = fairlead(tmp_path, up, *arguments)
        assert done.returncode == 6, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_commands_without_a_running_up_say_how_to_start_it(
    up: Installation, tmp_path: Path
) -> None:
    """Exit code 5, and the next command to type."""
    done = fairlead(tmp_path, up, "status", "--state", str(tmp_path / "none"))
    assert done.returncode == 5
    assert "fairlead up" in done.stderr


QUESTION = {"model": "banking", "messages": [{"role": "user", "content": "where is my card?"}]}


def ask(up: Installation, key: str, body: object, raw: bytes | None = None) -> Reply:
    """One request to the gateway."""

    async def send() -> Reply:
        connection = Connection(up.gateway, key)
        if raw is None:
            reply = await connection.post("/v1/chat/completions", body)  # type: ignore[arg-type]
        else:
            reply = await raw_post(up, key, raw)
        connection.close()
        return reply

    return asyncio.run(send())


async def raw_post(up: Installation, key: str, data: bytes) -> Reply:
    """A body that is not what `json.dumps` would make."""
    reader, writer = await asyncio.open_connection(*up.gateway)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nconnection: close\r\n"
        b"authorization: Bearer " + key.encode() + b"\r\n"
        b"content-length: " + str(len(data)).encode() + b"\r\n\r\n" + data
    )
    answer = await reader.read()
    writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    return Reply(int(head.split()[1]), text=content.decode())


def error_of(reply: Reply) -> dict[str, str]:
    """The error in OpenAI's form."""
    found: dict[str, str] = json.loads(reply.text)["error"]
    return found


def test_the_gateway_refuses_in_openai_s_form(up: Installation) -> None:
    """Wrong key 401, unknown model 404, invalid JSON 400, oversized body 413; then it serves on."""
    assert ask(up, "fl-wrong", QUESTION).status == 401
    unknown = ask(up, up.key, {**QUESTION, "model": "bankin"})
    assert unknown.status == 404
    assert error_of(unknown)["code"] == "model_not_found"
    broken = ask(up, up.key, None, raw=b'{"model": "banking", ')
    assert broken.status == 400
    assert error_of(broken)["type"] == "invalid_request_error"
    large = asyncio.run(oversized(up))
    assert large == 413
    assert ask(up, up.key, QUESTION).status == 200


async def oversized(up: Installation) -> int:
    """The status for a body that says it is larger than the service's limit."""
    reader, writer = await asyncio.open_connection(*up.gateway)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer "
        + up.key.encode()
        + b"\r\ncontent-length: 99999999\r\n\r\n{"
    )
    head = await reader.readline()
    writer.close()
    return int(head.split()[1])


def everything_in(folder: Path) -> dict[str, int]:
    """Files of a folder with their sizes, locks aside."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("lock")
    }
