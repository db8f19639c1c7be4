"""`fairlead alerts`, `silences`, `monitor list`: what is wrong, and of what nobody is told."""

from __future__ import annotations

import getpass
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from cli.test_follow import drawn
from cli.watched import NOW, Watching, watching
from control.kept_desk import PAGE, SHOP, T0
from fairlead.app.state import StatePaths
from fairlead.cli import doctor
from fairlead.cli.alerts import alert_line, bar, listing, picture
from fairlead.cli.api import ControlClient
from fairlead.cli.status import watched_lines
from fairlead.control.views import StatusView
from fairlead.control.watching.watch_views import AlertView, alert_views
from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.silences import Silence
from monitoring.making import condition, firing

__all__ = ["watching"]


def view(**changes: object) -> AlertView:
    (alert,) = firing(condition(), now=T0)
    (made,) = alert_views([alert], Desk(), NOW)
    return msgspec.structs.replace(made, **changes)


def test_what_fires_is_listed_the_gravest_first(watching: Watching) -> None:
    lines = watching("alerts").splitlines()
    assert lines[0].split() == ["alert", "severity", "state", "what", "for", "course", "incident"]
    assert [line.split()[:3] for line in lines[1:]] == [
        *([name, "page", "firing"] for name in sorted(x.fingerprint[:8] for x in (SHOP, PAGE))),
        [lines[3].split()[0], "ticket", "firing"],
    ]
    (mine,) = (line for line in lines if PAGE.fingerprint[:8] in line)
    for said in ("bank: slo is wrong", "2 min", "███"):
        assert said in mine
    assert [line.split()[0] for line in watching("alerts", "-s", "shop").splitlines()[1:]] == [
        SHOP.fingerprint[:8]
    ]
    assert len(watching("alerts", "--severity", "ticket").splitlines()) == 2
    assert "resolved" in watching("alerts", "--all")
    found = json.loads(watching("alerts", "--json"))
    assert [one["state"] for one in found] == ["firing"] * 3


def test_where_all_is_well_that_is_said(watching: Watching) -> None:
    assert watching("alerts", "-s", "nobody").strip() == "no alert fires"
    done = watching.refused("alerts", "--severity", "pages")
    assert (done.code, "must be one of page, ticket, info" in done.err) == (2, True)


def test_an_alert_is_shown_by_the_beginning_of_its_name(watching: Watching) -> None:
    text = watching("alerts", "show", PAGE.fingerprint[:5])
    for said in (
        "page  bank: slo is wrong", "firing, first seen 2026-01-01 00:00:00 UTC, 2 min ago",
        "monitor slo, service bank, slo availability", "fairlead incidents show 1",
        "burn rate over 1 h", "20 (limit 14.4)", "what changed near it",
        "1. release b promoted, 4 min before (same service)", "2026-01-01 00:00:00  firing: ",
    ):  # fmt: skip
        assert said in text
    done = watching.refused("alerts", "show", "zz")
    assert (done.code, "there is no alert 'zz'" in done.err) == (6, True)


def test_a_silence_is_added_shown_and_ended(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ana" * 100)
    text = watching("silences", "add", "service=bank", "slo!=cost", "--for", "2h", "--why", "known")
    (silence,) = watching.kept.desk.silences
    assert (silence.by, silence.why) == (("ana" * 100)[:100], "known")
    assert (silence.since, silence.until) == (NOW, NOW + 7_200.0)
    assert f'{silence.id} until 2026-01-01 02:02:00 UTC: service="bank" slo!="cost"' in text
    assert "nobody is told of 2 alerts now" in text
    assert "firing, silenced" in watching("alerts")
    shown = watching("alerts", "show", PAGE.fingerprint)
    assert "silenced until 2026-01-01 02:02:00 UTC by ana" in shown
    listed = watching("silences").splitlines()
    assert listed == watching("silences", "list").splitlines()
    assert listed[1].split()[:4] == [silence.id, "active", 'service="bank"', 'slo!="cost"']
    assert f"{silence.id} is over" in watching("silences", "end", silence.id)
    assert "over" in watching("silences")
    assert watching.refused("silences", "end", "si-none").code == 6


def test_a_silence_may_begin_later_and_of_nothing_that_fires(watching: Watching) -> None:
    assert watching("silences").strip() == "there is no silence"
    text = watching(
        "silences", "add", "service=new", "--for", "1d", "--in", "30min", "--why", "x", "--by", "b"
    )
    assert "it means no alert that fires now" in text
    (silence,) = watching.kept.desk.silences
    assert (silence.by, silence.since, silence.until) == ("b", NOW + 1_800.0, NOW + 88_200.0)
    assert "pending" in watching("silences")
    made = json.loads(watching("silences", "--json"))
    assert [one["state"] for one in made] == ["pending"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["service", "--for", "2h"], "'service' is no matcher"),
        (["service=a", "--for", "soon"], "--for soon: not a span of time"),
        (["service=a", "--for", "91d"], "more than 90 days"),
        (["service=a", "--for", "0s"], "has to end after it begins"),
        (["service!=a", "--for", "2h"], "a silence of everything is none"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(
    watching: Watching, words: list[str], said: str
) -> None:
    done = watching.refused("silences", "add", *words, "--why", "x", "--by", "b")
    assert (done.code, said in done.err) == (2, True)


def test_without_a_login_name_it_has_to_be_said_who_it_is(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    done = watching.refused("silences", "add", "service=a", "--for", "2h", "--why", "x")
    assert (done.code, "say who it is with --by" in done.err) == (2, True)


def test_monitors_are_listed_and_told_to_learn_anew(watching: Watching) -> None:
    lines = watching("monitor", "list").splitlines()
    assert lines[1].split()[:5] == ["slo", "bank", "ab", "watching", "1,234"]
    assert "blind: no data" in lines[2]
    assert "none yet" in lines[2]
    assert len(watching("monitor", "list", "-s", "shop").splitlines()) == 2
    assert "slo of bank told is taken" in watching("monitor", "accept", "bank", "slo")
    assert watching.kept.accepted == [("bank", "slo")]
    assert watching.refused("monitor", "accept", "bank", "none").code == 6
    assert "nothing is monitored" in watching("monitor", "list", "-s", "nobody")


def test_decisions_are_listed_the_newest_first(watching: Watching) -> None:
    lines = watching("monitor", "actions").splitlines()
    assert len(lines) == 2
    for said in ("roll_back", "dry_run", PAGE.fingerprint[:8], "back to the last good release"):
        assert said in lines[1]
    assert "nothing was decided" in watching("monitor", "actions", "-s", "shop")
    assert len(json.loads(watching("monitor", "actions", "--json"))) == 1


@pytest.mark.parametrize(
    ("value", "limit", "filled", "mark"),
    [
        (20.0, 14.4, 32, 21),
        (7.2, 14.4, 11, 21),
        (0.0, 14.4, 0, 21),
        (1e9, 1.0, 32, 0),
    ],
)
def test_a_bar_shows_a_value_beside_its_limit(
    value: float, limit: float, filled: int, mark: int
) -> None:
    cells = bar(Figure("a", value, limit=limit)).plain
    assert len(cells) == 32
    assert cells[mark] == "┃"
    assert abs(cells.count("█") - filled) <= 3
    assert cells.count("┃") == 1


@pytest.mark.parametrize(("value", "limit"), [(1.0, None), (1.0, 0.0), (-1.0, 2.0), (1.0, -2.0)])
def test_where_a_bar_would_say_nothing_there_is_none(value: float, limit: float | None) -> None:
    assert bar(Figure("a", value, limit=limit)).plain == ""
    most = sys.float_info.max
    assert "┃" in bar(Figure("a", most, limit=most)).plain


def test_an_alert_that_flaps_goes_or_is_over_says_so() -> None:
    text = drawn(picture(view(away_since=NOW - 60.0, returns=2), NOW))
    assert "its condition is away since 00:01:00, over in 4 min" in text
    assert "it came back 2 times" in text
    over = drawn(
        picture(view(state="resolved", entered_at=T0 + 600.0, causes=[], evidence=[]), NOW)
    )
    assert "over since 2026-01-01 00:10:00 UTC, after 10 min" in over
    assert "nothing that could be its cause is known to have changed" in over
    assert "runbook https://wiki.example/a" in drawn(
        picture(view(runbook="https://wiki.example/a"), NOW)
    )


def test_the_course_is_drawn_with_its_times_and_range() -> None:
    course = [(T0 + 60.0 * n, float(n)) for n in range(10)]
    text = drawn(picture(view(course=course), NOW))
    assert "▁▂" in text
    assert "00:00:00 to 00:09:00 UTC, from 0 to 9" in text


@pytest.mark.parametrize("width", [40, 80, 240])
def test_a_listing_fits_any_width(width: int) -> None:
    found = [view(summary="x" * 300, course=[(T0, 1.0)] * 3, incident=7)]
    lines = drawn(listing(found, NOW), width).splitlines()
    assert all(len(line) <= width for line in lines)


def status(**changes: object) -> StatusView:
    return msgspec.structs.replace(StatusView("1", "http://x", 1, [], [], [], 0.0), **changes)


def test_the_status_says_what_is_wrong_in_two_lines_and_nothing_where_all_is_well() -> None:
    assert watched_lines(status(), NOW) == []
    silence = Silence("si-1", (), T0, NOW + 1.0, "ana", "known")
    found = [view(silence=silence), view(summary="another")]
    first, second = watched_lines(status(alerts=3, incidents=1, gravest=found), NOW)
    assert first.plain == "watched  3 alerts and 1 incident  (fairlead alerts, fairlead incidents)"
    assert second.plain == "  " + alert_line(found[0], NOW).plain
    assert "page bank: slo is wrong  for 2 min, silenced  (fairlead alerts show " in second.plain
    (only,) = watched_lines(status(incidents=2), NOW)
    assert only.plain.startswith("watched  2 incidents  ")


def test_the_status_says_that_nobody_watches() -> None:
    hangs = status(watching_age_s=1_300.0)
    (only,) = watched_lines(hangs, NOW)
    assert only.plain == "not watched  no look at the services for 1,300 s  (fairlead doctor)"
    fails = status(watching_age_s=9.0, watching_trouble="a defect: [b]", incidents=1)
    first, second = watched_lines(fails, NOW)
    assert first.plain.startswith("not watched  no look at the services for 9 s: a defect: [b]")
    assert second.plain.startswith("watched  1 incident")


def test_the_doctor_finds_that_nobody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = status()

    def get(kind: object, _path: str) -> object:
        return shown if kind is StatusView else []

    monkeypatch.setattr(ControlClient, "of", lambda _paths: SimpleNamespace(get=get))
    for shown, is_ok in (
        (status(watching_age_s=3.0), True),
        (status(watching_age_s=130.0), False),
        (status(watching_age_s=3.0, watching_trouble="the disk is full"), False),
    ):
        (found,) = [f for f in doctor._running(StatePaths(tmp_path)) if f.what == "watching"]
        assert found.ok is is_ok
        assert found.detail.startswith("looked at everything ")
        assert shown.watching_trouble in found.detail


def test_what_the_desk_keeps_is_never_infinite_in_json() -> None:
    wild = msgspec.structs.replace(condition(), evidence=(Figure("a", math.inf, limit=math.nan),))
    (made,) = alert_views(firing(wild), Desk(), NOW)
    assert msgspec.json.decode(msgspec.json.encode(made), type=AlertView) == made


def test_what_it_is_about_is_quoted_on_one_line_each() -> None:
    shown = drawn(picture(view(quotes=["topic 1: card\nlost", "topic 2: loan"]), NOW))
    assert "what it is about" in shown
    assert "  topic 1: card lost" in shown
    assert "what it is about" not in drawn(picture(view(), NOW))
