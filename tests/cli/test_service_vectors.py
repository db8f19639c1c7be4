"""`fairlead monitor vectors --service`: a table fitted to what users of one service ask."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cli.simulated_installation import Run
from cli.watched import Watching, watching
from control.kept_desk import T0
from fairlead.app.state import StatePaths
from fairlead.cli import service_vectors
from fairlead.cli.api import ControlClient
from fairlead.cli.service_vectors import PAGE
from fairlead.control.sample_views import SampleView
from fairlead.control.watching.interface import MonitorStanding
from fairlead.domain.errors import Unavailable
from fairlead.embedding import teacher
from fairlead.embedding.static import StaticTable
from support import small_bert

__all__ = ["watching"]

pytest.importorskip("tokenizers")


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    made = StatePaths(tmp_path / "state")
    made.create()
    return made


def sample(number: int, text: str) -> SampleView:
    prompt = [("system", "Be brief."), ("user", "first"), ("assistant", "yes"), ("user", text)]
    return SampleView(f"r{number}", "bank", "k", "u", T0 + number, T0 * 2, prompt, "", False)


class Samples:
    """What control keeps, the newest first; by whom it was asked."""

    def __init__(self, count: int) -> None:
        dice = random.Random(5)
        self.texts = [f"word{dice.randrange(60)} word{n} word{n % 7}" for n in range(count)]
        self.asked: list[dict[str, Any]] = []

    def get(self, _kind: type, *path: str, **query: Any) -> Any:
        assert path == ("samples",)
        self.asked.append(query)
        every = [*self.texts, *self.texts[:50], "  "]
        newest = [sample(n, text) for n, text in enumerate(every)][::-1]
        before = query["before"]
        return [one for one in newest if before is None or one.at < before][: query["limit"]]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Samples:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(teacher, "read", lambda _source: small_bert.sentence_teacher())
    made = Samples(300)
    monkeypatch.setattr(ControlClient, "of", lambda _paths: ControlClient("http://x:1", "t"))
    monkeypatch.setattr(ControlClient, "get", made.get)
    return made


def make(run: Run, paths: StatePaths, *more: object) -> str:
    where = ("--from", paths.root.parent, "--state", paths.root)
    done = run("monitor", "vectors", "--service", "bank", *where, *more)
    assert done.code == 0, done.err
    return done.out


def test_it_is_fitted_to_the_sample_of_the_service_said_and_not_made_again(
    run: Run, paths: StatePaths, samples: Samples
) -> None:
    said = make(run, paths)
    assert len(samples.asked) == 2
    assert samples.asked[0] == {"service": "bank", "limit": PAGE, "before": None}
    assert "of fewer than 2,000 different prompts" in said
    assert "fitted to 300 prompts" in said, "each once, and nothing for what says nothing"
    assert "drift of bank goes by it from the next `fairlead up` on" in said
    place = paths.service_vectors / "bank"
    before = StaticTable.load(place).name
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert "is there; --anew" in make(run, paths)
    assert len(samples.asked) == 2, "nothing is read for that"
    samples.texts = samples.texts[:250]
    assert "fitted to 250 prompts" in make(run, paths, "--anew")
    assert StaticTable.load(place).name != before
    assert [one.name for one in paths.service_vectors.iterdir()] == ["bank"]


def test_more_than_one_answer_of_control_has_is_asked_for_in_turns(
    paths: StatePaths, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_vectors, "PAGE", 100)
    monkeypatch.setattr(service_vectors, "TEXTS_MAX", 220)
    texts = service_vectors.asked("bank", paths.root)
    assert len(samples.asked) == 3
    # The newest ones, of which fifty are asked again.
    assert set(texts) <= set(samples.texts)
    assert len(texts) == len(set(texts)) == 220
    assert samples.texts[299] in texts
    monkeypatch.setattr(service_vectors, "TEXTS_MAX", 4_000)
    assert sorted(service_vectors.asked("bank", paths.root)) == sorted(samples.texts)


def test_a_sample_that_is_too_small_is_refused_before_anything_is_downloaded(
    run: Run, paths: StatePaths, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.texts = samples.texts[:120]
    monkeypatch.setattr(teacher, "read", lambda _source: pytest.fail("it was read"))
    done = run("monitor", "vectors", "--service", "bank", "--state", paths.root)
    assert done.code == 2
    assert "bank: its sample has 120 different prompts, and 200 are needed" in done.err
    assert "capture" in done.err
    assert not paths.service_vectors.exists()


def test_a_run_that_fails_leaves_what_was_there(
    run: Run, paths: StatePaths, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run, paths)
    place = paths.service_vectors / "bank"
    before = StaticTable.load(place).name

    def full(_table: StaticTable, folder: Path) -> None:
        folder.mkdir()
        (folder / "table.npy").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StaticTable, "save", full)
    where = ("--from", paths.root.parent, "--state", paths.root)
    done = run("monitor", "vectors", "--service", "bank", "--anew", *where)
    assert done.code == 9
    assert "No space left on device" in done.err
    assert StaticTable.load(place).name == before
    assert [one.name for one in paths.service_vectors.iterdir()] == ["bank"]


@pytest.mark.parametrize("at", ["old", "fresh"])
def test_one_that_is_killed_on_its_way_leaves_a_table_and_nothing_else(
    run: Run, paths: StatePaths, samples: Samples, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run, paths)
    place = paths.service_vectors / "bank"
    before = StaticTable.load(place).name
    if at == "old":  # It was killed between the two renamings.
        place.replace(paths.service_vectors / ".bank.old")
    (paths.service_vectors / ".bank.fresh").mkdir()

    def full(_table: StaticTable, _folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StaticTable, "save", full)
    where = ("--from", paths.root.parent, "--state", paths.root)
    assert run("monitor", "vectors", "--service", "bank", "--anew", *where).code == 9
    assert StaticTable.load(place).name == before
    assert [one.name for one in paths.service_vectors.iterdir()] == ["bank"]


@pytest.mark.parametrize("name", ["", ".", "..", "../run", "a/b", "/etc", ".hidden"])
def test_what_is_no_name_of_a_service_reaches_no_folder(
    run: Run, paths: StatePaths, samples: Samples, name: str
) -> None:
    make(run, paths)
    done = run("monitor", "vectors", "--service", name, "--anew", "--state", paths.root)
    assert done.code == 2
    assert "is no name of a service" in done.err
    assert len(samples.asked) == 2
    assert StaticTable.load(paths.service_vectors / "bank")


def test_doctor_says_which_tables_are_whole(
    run: Run, paths: StatePaths, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run, paths)

    def away(_paths: StatePaths) -> ControlClient:
        raise Unavailable("fairlead is not running")

    monkeypatch.setattr(ControlClient, "of", away)
    (paths.service_vectors / "shop").mkdir()
    (paths.service_vectors / ".bank.7").mkdir()
    found = json.loads(run("doctor", "--json", "--state", paths.root).out)
    said = {one["what"]: one for one in found if one["what"].startswith("vectors of ")}
    assert said.keys() == {"vectors of bank", "vectors of shop"}
    assert said["vectors of bank"]["ok"]
    assert not said["vectors of shop"]["ok"]
    assert "--service shop --anew" in said["vectors of shop"]["advice"]


def test_the_list_names_the_services_that_go_by_one(watching: Watching, paths: StatePaths) -> None:
    watching.kept.standings += [
        MonitorStanding(
            "shop", "sha256:ab", "drift", "watching", 9, T0, T0, "", "static-384-abcdef123456"
        )
    ]
    lines = watching("monitor", "list", "--state", paths.root).splitlines()
    assert "drift of shop goes by a table that was fitted to what it is asked" in lines
