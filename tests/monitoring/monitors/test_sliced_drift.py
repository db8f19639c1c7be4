"""Drift of segments: found where the whole does not see it, named, and within the same budget."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import islice

import pytest

pytest.importorskip("numpy")

from fairlead.embedding.hashed import HashedNgrams
from fairlead.monitoring.conditions import Condition, check_condition
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.interface import GoesByVectors, Inherits, KeepsTexts, SeenText
from fairlead.monitoring.monitors.made_texts import changed_texts, made_text, usual_texts
from fairlead.monitoring.monitors.sliced_drift import SLICES_MAX, SlicedDrift
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.monitors.texts import WATCHES, build_texts

SETTINGS = TextSettings(drift_texts=1_000, texts_per_false_alarm=1e4)
NOW = 2_000_000.0
SEGMENTS = {"partners": ("partner-app", "partner-web"), "kiosks": ("kiosk",)}
NAMES = {"k1": "partner-app", "k2": "kiosk", "k3": "web"}
OF_PARTNERS, OF_KIOSKS, OF_OTHERS = "k1", "k2", "k3"


def sliced(segments: dict[str, tuple[str, ...]] | None = None, release: str = "abc") -> SlicedDrift:
    return SlicedDrift(
        About("drift", "bank", f"sha256:{release}", "prompt"), SETTINGS,
        SEGMENTS if segments is None else segments, NAMES.__getitem__, HashedNgrams(64),
    )  # fmt: skip


def by(key: str, texts: Iterable[SeenText], name: str = "") -> list[SeenText]:
    """The same texts, asked with this key."""
    return [
        made_text(one.prompt, id=f"{name}{key}-{one.request.id}", at=float(place), key=key)
        for place, one in enumerate(texts)
    ]


def together(*several: list[SeenText], seed: int = 3) -> list[SeenText]:
    """In an order of chance."""
    mixed = [text for texts in several for text in texts]
    random.Random(seed).shuffle(mixed)
    return mixed


def see(monitor: SlicedDrift, texts: Iterable[SeenText]) -> SlicedDrift:
    for text in texts:
        monitor.see_text(text)
    return monitor


def learnt() -> SlicedDrift:
    """A tenth of the users are partners; kiosks are still learnt."""
    usual = list(usual_texts(6_100))
    partners, others = usual[:1_100], usual[1_100:]
    return see(sliced(), together(by(OF_PARTNERS, partners), by(OF_OTHERS, others)))


def honest(count: int) -> list[SeenText]:
    return list(islice(usual_texts(9_000 + count), 9_000, None))


def drifted(monitor: SlicedDrift, channel: str = "new_content") -> list[Condition]:
    """What is told first when half of what a tenth of the users asks is other than before."""
    changed = by(OF_PARTNERS, changed_texts(450, "prompt", channel), "new")
    texts = together(changed, by(OF_OTHERS, honest(4_050), "later"))
    for start in range(0, len(texts), 20):
        see(monitor, texts[start : start + 20])
        if found := monitor.conditions(NOW):
            return found
    raise AssertionError("nothing is found")


@pytest.fixture(scope="module")
def kept() -> str:
    """The state of one that has learnt, as JSON."""
    return json.dumps(learnt().state())


def again(kept: str, segments: dict[str, tuple[str, ...]] | None = None) -> SlicedDrift:
    monitor = sliced(segments)
    monitor.restore(json.loads(kept))
    return monitor


def test_a_change_in_a_tenth_of_the_users_is_found_there_and_named(kept: str) -> None:
    """Of all texts one in twenty is new: the whole needs longer for that."""
    monitor = again(kept)
    assert monitor.conditions(NOW) == []
    (found,) = drifted(monitor)
    check_condition(found)
    assert dict(found.labels) == {
        "monitor": "drift", "service": "bank", "release": "abc", "channel": "new_content",
        "segment": "partners",
    }  # fmt: skip
    assert found.summary.startswith("bank: segment partners, since ")
    cases = monitor.suggested_cases()
    assert cases
    assert all(case.tags[0] == "drift" and case.tags[-1] == "segment=partners" for case in cases)
    ids = {case.request for case in cases}
    assert ids <= monitor.kept_requests()
    monitor.forget(ids)
    assert not ids & monitor.kept_requests()


def test_another_mix_of_a_tenth_of_the_users_is_found_where_the_whole_tolerates_it(
    kept: str,
) -> None:
    """A topic has one eighth of all texts, then one sixth: the whole allows for that."""
    monitor = again(kept)
    (found,) = drifted(monitor, "mix")
    assert dict(found.labels)["segment"] == "partners"
    assert dict(found.labels)["channel"] == "mix"


def test_honest_texts_are_no_alarm_of_the_whole_or_a_segment(kept: str) -> None:
    texts = honest(4_000)
    monitor = again(kept)
    see(monitor, together(by(OF_PARTNERS, texts[:1_000]), by(OF_OTHERS, texts[1_000:])))
    assert monitor.conditions(NOW) == []


def test_all_false_alarms_together_are_as_rare_as_without_segments() -> None:
    """Also if every segment has all of the users."""
    segments = {f"s{number}": (f"key {number}",) for number in range(SLICES_MAX + 2)}
    monitor, *_ = build_texts("bank", "sha256:abc", SETTINGS, HashedNgrams(64), segments)
    assert isinstance(monitor, SlicedDrift)
    lengths = [each._run_length for each in monitor._monitors.values()]
    assert len(lengths) == 1 + SLICES_MAX
    allowed = 1.0 / (SETTINGS.texts_per_false_alarm * WATCHES)
    assert sum(1.0 / length for length in lengths) == pytest.approx(allowed)
    assert "2 more segments are not watched" in monitor.standing()


def test_what_is_declared_besides_leaves_the_others_as_they_are(kept: str) -> None:
    monitor = again(kept, {**SEGMENTS, "new": ("other",)})
    told = monitor.standing()
    assert told.startswith("watching, ")
    assert "partners: watching, " in told
    assert "kiosks: learning, 0 of 1,000 prompts" in told
    assert "new: learning, 0 of 1,000 prompts" in told
    fewer = again(kept, {"partners": ("partner-app", "another")})
    assert "partners: learning, 0 of" in fewer.standing(), "others' texts are no reference"
    assert fewer.standing().startswith("watching, ")


def test_it_goes_on_from_its_state_and_another_release_from_what_was_asked(kept: str) -> None:
    monitor = again(kept)
    assert json.loads(json.dumps(monitor.state())) == json.loads(kept)
    after = sliced(release="def")
    with pytest.raises(ValueError, match="another release"):
        after.restore(json.loads(kept))
    after.inherit(json.loads(kept))
    assert "partners: watching, " in after.standing()
    for damaged in ({}, {"of": "x"}, {**json.loads(kept), "segments": 7}):
        before = after.state()
        with pytest.raises(ValueError, match=r"stat"):
            after.inherit(damaged)
        assert after.state() == before


def test_who_tells_something_learns_anew_when_it_is_accepted_and_nobody_else(kept: str) -> None:
    monitor = again(kept)
    assert drifted(monitor)
    monitor.accept()
    assert monitor.conditions(NOW) == []
    assert monitor.standing().startswith("watching, ")
    assert "partners: learning, 0 of" in monitor.standing()
    monitor.accept()
    assert monitor.standing().startswith("learning, 0 of")


def test_it_is_asked_as_the_monitor_of_all_users_is() -> None:
    monitor = sliced()
    assert isinstance(monitor, KeepsTexts)
    assert isinstance(monitor, Inherits)
    assert isinstance(monitor, GoesByVectors)
    assert monitor.self_test() == ""
    without, *_ = build_texts("bank", "sha256:abc", SETTINGS)
    assert isinstance(without, TextDrift)
