"""What monitors of drift go by: the table of what words mean, if it is there and whole."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from fairlead.control.watching.monitors import MonitorMaker
from fairlead.control.watching.release_monitors import MONITOR, ReleaseMonitors
from fairlead.control.watching.served import Served
from fairlead.domain.capture import Capture
from fairlead.embedding.kinds import HASHED, STATIC, WORDS
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.made_texts import usual_texts
from fairlead.store.keys import KeyRow
from support.word_table import word_table


class NoKeys:
    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        return []


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "word-vectors.npz"


def monitors(maker: MonitorMaker, service: str = "bank") -> ReleaseMonitors:
    served = Served(service, "sha256:a", Declared(), capture=Capture(1.0))
    return ReleaseMonitors(service, "sha256:a", lambda: maker(served, "sha256:a"))


def kinds(found: ReleaseMonitors) -> dict[str, str]:
    return {one.monitor: one.vectors.partition("-")[0] for one in found.standings(0.0)}


def test_without_a_table_drift_goes_by_spelling_and_only_drift_needs_vectors(table: Path) -> None:
    for path in (None, table):
        found = kinds(monitors(MonitorMaker(NoKeys(), path)))
        assert {name for name, kind in found.items() if kind} == {"drift", "answer_drift"}
        assert found["drift"] == found["answer_drift"] == HASHED


def test_with_a_table_drift_goes_by_meaning_and_all_services_share_it(table: Path) -> None:
    table.write_bytes(word_table().as_bytes())
    maker = MonitorMaker(NoKeys(), table)
    assert kinds(monitors(maker))["drift"] == kinds(monitors(maker, "shop"))["drift"] == WORDS
    made = [
        one
        for service in ("bank", "shop")
        for one in maker(Served(service, "", Declared(), capture=Capture(1.0)), "sha256:a")
        if isinstance(one, TextDrift)
    ]
    assert len(made) == 4
    assert len({id(one._embedder) for one in made}) == 1


@pytest.mark.parametrize("damage", [b"", b"no table at all", None])
def test_a_damaged_table_is_logged_and_drift_goes_by_spelling(
    table: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    table.write_bytes(word_table().as_bytes()[:-300] if damage is None else damage)
    assert kinds(monitors(MonitorMaker(NoKeys(), table)))["drift"] == HASHED
    (said,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert "goes by spelling" in said
    assert str(table) in said


def test_a_folder_in_its_place_is_a_damaged_table(table: Path) -> None:
    table.mkdir()
    assert kinds(monitors(MonitorMaker(NoKeys(), table)))["drift"] == HASHED


def test_a_table_that_is_made_meanwhile_is_taken_at_the_next_start_and_drift_learns_anew(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = MonitorMaker(NoKeys(), table)
    before = monitors(maker)
    for text in usual_texts(40):
        before.see_text(text)
    table.write_bytes(word_table().as_bytes())
    assert kinds(monitors(maker))["drift"] == HASHED, "one process goes by one kind"

    def restored(made: ReleaseMonitors) -> dict[str, str]:
        documents = before.documents()
        kept = {key: data for (kind, key), data in documents.items() if kind == MONITOR}
        parts = {key: data for (kind, key), data in documents.items() if kind != MONITOR}
        made.restore(kept, parts)
        return {one.monitor: one.standing for one in made.standings(0.0)}

    same = restored(monitors(MonitorMaker(NoKeys(), None)))
    assert same["drift"] == "learning, 40 of 1,500 prompts"
    assert not caplog.records
    other = restored(monitors(MonitorMaker(NoKeys(), table)))
    assert other["drift"] == "learning, 0 of 1,500 prompts"
    assert other["injection"] == same["injection"] != "", "what needs no vectors goes on"
    logged = [one.getMessage() for one in caplog.records]
    assert [line.split(" learns anew")[0] for line in logged] == [
        "monitor drift of bank", "monitor answer_drift of bank",
    ]  # fmt: skip


def test_a_table_that_was_fitted_to_a_service_goes_before_and_is_of_it_alone(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tokenizers")
    from embedding.test_static import tokenizer
    from fairlead.embedding.static import StaticTable

    table.write_bytes(word_table().as_bytes())
    made = tokenizer()
    rows = np.eye(made.get_vocab_size(), 32, dtype=np.float32) + 0.01
    StaticTable(rows, made).save(tmp_path / "fitted" / "bank")
    (tmp_path / "fitted" / "damaged").mkdir()
    maker = MonitorMaker(NoKeys(), table, service_vectors=tmp_path / "fitted")
    assert kinds(monitors(maker))["drift"] == kinds(monitors(maker))["answer_drift"] == STATIC
    assert kinds(monitors(maker, "shop"))["drift"] == WORDS
    with caplog.at_level(logging.ERROR):
        assert kinds(monitors(maker, "damaged"))["drift"] == WORDS
        assert kinds(monitors(maker, "damaged"))["drift"] == WORDS
    assert caplog.text.count("has no table.npy") == 1
