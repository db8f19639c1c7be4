"""What has drifted becomes cases for suites, and deleted samples are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.hanging import hanging_look
from control.watching_world import Outbox, Platform
from fairlead.control.watching.served import Served
from fairlead.control.watching.watching import Watching
from fairlead.domain.capture import Capture
from fairlead.domain.errors import NotFound
from fairlead.embedding.hashed import HashedNgrams
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.monitors.made_texts import changed_texts, usual_texts
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import RequestRow, SampleFilter, SampleRow, SpoolCursor

SETTINGS = TextSettings(drift_texts=1_000, texts_per_false_alarm=1e4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(f"sqlite:///{tmp_path}/store.db")
    made.open_spool("boot")
    yield made
    made.close()


def record(store: Store, prompts: list[str], first: int, at: float) -> None:
    """Requests a tenth of a second apart, with what they asked."""
    rows, samples = [], []
    for place, prompt in enumerate(prompts):
        name, began = f"r{first + place:06d}", at + 0.1 * place
        values = ("", 0, "chat", False, 200, "", began, 5.0, -1.0, 50.0, 10, 5, 1)
        rows.append(
            RequestRow(name, "bank", "sha256:a", "champion", "bank-1", "app", "u", 0.0, *values)
        )
        turns = f'[["system","be kind"],["user","{prompt}"]]'
        samples.append(SampleRow(name, "bank", "app", "u", began, 1e12, turns, "fine", False))
    cursor = SpoolCursor(offset=first + len(rows), complete_until=at + 0.1 * len(rows) + 5.0)
    store.ingest("boot", rows, [], cursor, samples=samples)


async def drifted(store: Store) -> tuple[Watching, float]:
    """A watching that has seen usual prompts, and then others."""
    now = [100_000.0]
    platform = Platform()
    platform.served = [Served("bank", "sha256:a", Declared(), capture=Capture(1.0))]

    def build(_served: Any, _release: str) -> list[Any]:
        return [TextDrift(About("drift", "bank", "sha256:a", "prompt"), SETTINGS, HashedNgrams(64))]

    watching = Watching(store, platform, build, lambda: now[0], Outbox())
    await watching.load()
    usual = [text.prompt for text in usual_texts(1_320, "prompt")]
    others = [text.prompt for text in changed_texts(320, "prompt", "new_content")]
    record(store, usual + others, 0, now[0])
    now[0] += 0.1 * 1_640 + 10.0
    for _ in range(4):
        await watching.look()
    return watching, now[0]


async def test_new_prompts_are_cases_and_reading_them_is_noted(store: Store) -> None:
    watching, _ = await drifted(store)
    assert "drift" in {alert.of["monitor"] for alert in watching.desk.alerts.values()}
    cases = await watching.suggested_cases("bank")
    assert cases
    assert all(int(case.request[1:]) >= 1_000 for case in cases)
    assert {tag for case in cases for tag in case.tags} >= {"drift"}
    assert [event.kind for event in store.events("bank")] == ["samples_read"]
    with pytest.raises(NotFound, match="no service"):
        await watching.suggested_cases("other")
    await watching.close()


async def test_what_is_deleted_is_forgotten_also_where_it_is_kept(store: Store) -> None:
    watching, _ = await drifted(store)
    while store.delete_samples(SampleFilter(service="bank")):
        pass
    for watch in watching._services.values():
        await asyncio.to_thread(watch.forget_deleted)
    assert await watching.suggested_cases("bank") == []
    kept = b"".join(
        data for kind in ("monitor", "monitor_part") for data in store.documents(kind).values()
    )
    assert b"r000100" not in kept
    assert not any(f"r{number:06d}".encode() in kept for number in (1_330, 1_500, 1_600))
    await watching.close()


async def test_cases_are_told_while_a_look_goes_on_as_of_the_one_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, _ = await drifted(store)
    async with hanging_look(watching, monkeypatch):
        found = await asyncio.wait_for(watching.suggested_cases("bank"), 5.0)
        assert found
        store.delete_samples(SampleFilter(request=found[0].request))
        again = await asyncio.wait_for(watching.suggested_cases("bank"), 5.0)
        assert again == found[1:], "what was deleted meanwhile is not told"
    await watching.close()


async def test_a_defect_in_suggesting_cases_does_not_end_the_watch(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watching, _ = await drifted(store)

    def fails(_drift: TextDrift) -> list[SuggestedCase]:
        raise ZeroDivisionError

    monkeypatch.setattr(TextDrift, "suggested_cases", fails)
    assert await watching.suggested_cases("bank") == []
    assert "cannot suggest cases: a defect" in caplog.text
    await watching.look()
    (watch,) = watching._services.values()
    (drift,) = [one for one in watch.standings() if one.monitor == "drift"]
    assert drift.trouble.startswith("cannot suggest cases: a defect: ZeroDivisionError")
    assert caplog.text.count("cannot suggest cases") == 1, "once, however often they are asked"
    monkeypatch.undo()
    assert await watching.suggested_cases("bank")
    assert [one.trouble for one in watch.standings() if one.monitor == "drift"] == [""]
    assert "monitor_blind" not in {alert.of["monitor"] for alert in watching.desk.alerts.values()}
    await watching.close()
