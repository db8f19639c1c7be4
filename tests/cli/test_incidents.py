"""`fairlead incidents`: a story that can be read, exported, noted, merged and closed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.watched import NOW, Watching, watching
from control.kept_desk import PAGE, SHOP
from fairlead.monitoring.incidents import QUIET_S
from fairlead.monitoring.postmortem import postmortem

__all__ = ["watching"]


def test_incidents_that_go_on_are_listed_the_newest_first(watching: Watching) -> None:
    lines = watching("incidents").splitlines()
    assert lines[0].split() == [
        "incident", "state", "severity", "services", "what", "began", "lasted", "alerts",
    ]  # fmt: skip
    assert [line.split()[:4] for line in lines[1:]] == [
        ["2", "open", "page", "shop"], ["1", "open", "page", "bank"],
    ]  # fmt: skip
    assert lines[2].endswith("2 of 3")
    assert len(watching("incidents", "-s", "shop").splitlines()) == 2
    assert watching("incidents", "-s", "nobody").strip() == "no incident goes on"
    assert [one["number"] for one in json.loads(watching("incidents", "--json"))] == [2, 1]


def test_an_incident_reads_like_a_post_mortem(watching: Watching) -> None:
    text = watching("incidents", "show", 1)
    for said in (
        "Incident 1: bank: ", "Summary", "3 alerts of bank, the gravest a page", "What was seen",
        "burn rate over 1 h: 20 (limit 14.4)", "What changed near it",
        "1 release b promoted, 3 min before (same service)", "Timeline",
        "23:56:00 rollout: release b promoted", "Resolution", "It is not over.",
    ):  # fmt: skip
        assert said in text
    for markup in ("##", "**", "\\_", "| --- |"):
        assert markup not in text
    shown = json.loads(watching("incidents", "show", 1, "--json"))
    assert shown["page"].startswith("# Incident 1")
    assert watching.refused("incidents", "show", 99).code == 6


def test_a_timeline_over_midnight_has_a_day_above_each_part(watching: Watching) -> None:
    page = postmortem(watching.kept.desk.incidents[0], NOW)
    before, after = page.split("\n\n**2026-01-01**\n\n- ")
    assert "**2025-12-31**\n\n- 23:56:00 " in before
    assert after.startswith("00:0")


def test_an_incident_is_exported_as_markdown_and_json(watching: Watching, tmp_path: Path) -> None:
    page = postmortem(watching.kept.desk.incidents[0], NOW)
    assert watching("incidents", "export", 1) == page
    out = tmp_path / "1.md"
    assert "incident 1" in watching("incidents", "export", 1, "--out", out)
    assert out.read_text() == page
    assert json.loads(watching("incidents", "export", 1, "--json"))["page"] == page
    done = watching.refused("incidents", "export", 1, "--out", tmp_path / "none" / "1.md")
    assert (done.code, "cannot be written" in done.err) == (9, True)


def test_an_incident_is_closed_in_words_while_it_fires_by_force_only(watching: Watching) -> None:
    words = ("--words", "it was b", "--by", "ana")
    done = watching.refused("incidents", "close", 1, *words)
    assert (done.code, "still fire" in done.err, "by force" in done.err) == (7, True, True)
    assert watching.refused("incidents", "close", 1, "--by", "ana").code == 2
    text = watching("incidents", "close", 1, *words, "--force")
    assert "incident 1 is closed: " in text
    assert "it was b (by ana)" in text
    listed = watching("incidents", "--all").splitlines()
    assert listed[2].split()[:2] == ["1", "closed"]
    assert len(watching("incidents").splitlines()) == 2


def test_an_incident_without_alerts_is_closed_without_force(watching: Watching) -> None:
    for now in (NOW + 60.0, NOW + 360.0):
        watching.kept.look(now)
    watching.now = NOW + 360.0 + QUIET_S / 2
    assert "quiet" in watching("incidents")
    assert "is closed" in watching("incidents", "close", 1, "--words", "it was b", "--by", "ana")


@pytest.mark.parametrize("words", ["", " ", "x" * 2_001])
def test_words_that_say_nothing_or_too_much_are_refused(watching: Watching, words: str) -> None:
    assert watching.refused("incidents", "note", 1, "--words", words, "--by", "ana").code == 2


def test_a_note_is_part_of_the_story(watching: Watching) -> None:
    text = watching("incidents", "note", 1, "--words", "the cache was cold", "--by", "ana")
    assert "incident 1 is open: " in text
    assert "the cache was cold (by ana)" in text
    assert "the cache was cold (by ana)" in watching("incidents", "show", 1)
    made = json.loads(watching("incidents", "note", 1, "--words", "x", "--by", "ana", "--json"))
    assert made["timeline"][-1]["what"] == "x"


def test_two_incidents_are_made_one(watching: Watching) -> None:
    assert "incident 1 is open" in watching("incidents", "merge", 2, 1, "--by", "ana")
    listed = [line.split()[:3] for line in watching("incidents", "--all").splitlines()[1:]]
    assert listed == [["2", "part", "of"], ["1", "open", "page"]]
    shown = json.loads(watching("incidents", "show", 1, "--json"))
    assert {PAGE.fingerprint, SHOP.fingerprint} <= {one["fingerprint"] for one in shown["alerts"]}
    assert watching.refused("incidents", "merge", 2, 1, "--by", "ana").code == 7
    assert watching.refused("incidents", "merge", 1, 1, "--by", "ana").code == 2
