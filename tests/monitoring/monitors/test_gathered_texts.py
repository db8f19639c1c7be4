"""A larger reference, once there are texts for it: of what it is made, when, and what is kept."""

import json
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from fairlead.embedding.hashed import HashedNgrams  # noqa: E402
from fairlead.embedding.kinds import MODEL  # noqa: E402
from fairlead.monitoring.monitors.drift import TextDrift  # noqa: E402
from fairlead.monitoring.monitors.drift_words import About  # noqa: E402
from fairlead.monitoring.monitors.gathered_texts import Gathered  # noqa: E402
from fairlead.monitoring.monitors.kept_texts import KeptText  # noqa: E402
from fairlead.monitoring.monitors.made_texts import (  # noqa: E402
    changed_texts,
    made_text,
    usual_texts,
)
from fairlead.monitoring.monitors.text_settings import TextSettings  # noqa: E402
from fairlead.stats.drift.monitor import DriftMonitor  # noqa: E402
from fairlead.stats.drift.usual import WAIT, Joined  # noqa: E402

FIRST, LATER = 1_000, 2_000
ENOUGH = LATER + WAIT + 100
"""After so many texts there is a larger reference for sure."""
SETTINGS = TextSettings(drift_texts=FIRST, drift_texts_later=LATER)
NOW = 2_000_000.0


class Asked(HashedNgrams):
    """Embeds as the others do, under the name of one that asks a model."""

    @property
    def name(self) -> str:
        return f"{MODEL}-64"


def drift(**changed: Any) -> TextDrift:
    settings = TextSettings(**{"drift_texts": FIRST, "drift_texts_later": LATER} | changed)
    return TextDrift(About("drift", "bank", "sha256:abc", "prompt"), settings, HashedNgrams(64))


def see(monitor: TextDrift, texts: Any) -> TextDrift:
    for text in texts:
        monitor.see_text(text)
    return monitor


def gathered(monitor: TextDrift) -> list[str] | None:
    """Ids of the texts that it gathers; None where it does not any more."""
    kept = monitor.state()["watching"]["gathered"]
    return None if kept is None else [id for group in kept["texts"] for id, _, _ in group]


def reference(monitor: TextDrift) -> str:
    return str(monitor.state()["watching"]["reference"])


def texts(*numbers: int) -> list[KeptText]:
    return [KeptText(str(number), float(number), f"text {number}") for number in numbers]


def test_what_joined_is_gathered_and_what_was_refused_or_dropped_is_not() -> None:
    made = Gathered(texts(1, 2))
    made.see(texts(3, 4, 5), Joined(), 3)
    assert (len(made), made.waiting) == (2, 3)
    made.see(texts(6), Joined(taken=2), 2)
    assert made.known() == texts(1, 2, 3, 4)
    made.see(texts(7), Joined(refused=1), 2)
    assert (made.known(), made.waiting) == (texts(1, 2, 3, 4), 2)
    made.see(texts(8), Joined(), 0)  # an alarm
    made.see(texts(9), Joined(taken=1), 0)
    assert made.known() == texts(1, 2, 3, 4, 9)


def test_what_is_forgotten_does_not_count_and_what_waits_is_forgotten_too() -> None:
    made = Gathered(texts(1, 2), texts(3, 4))
    made.forget({"2", "3"})
    assert (len(made), made.waiting) == (1, 2)
    made.see([], Joined(taken=2), 0)
    assert made.known() == texts(1, 4)
    assert "text 2" not in str(made.all())
    assert "text 3" not in str(made.all())


def test_it_is_stored_in_groups_of_which_only_the_last_changes() -> None:
    made = Gathered(texts(*range(250)), texts(998, 999))
    before = made.stored()
    assert [len(group) for group in before["texts"]] == [100, 100, 50]
    made.see([], Joined(taken=2), 0)
    after = json.loads(json.dumps(made.stored()))
    assert after["texts"][:2] == before["texts"][:2]
    assert Gathered.of_stored(after, 0).known() == made.known()
    with pytest.raises(ValueError, match="2 wait, and not 1"):
        Gathered.of_stored(before, 1)
    with pytest.raises(ValueError, match="groups"):
        Gathered.of_stored({"texts": 3, "waiting": []}, 0)


def test_it_learns_again_once_from_many_more_texts() -> None:
    monitor = see(drift(), usual_texts(FIRST + 50))
    first = reference(monitor)
    assert monitor.standing() == "watching, 50 prompts, 1,000 of 2,000 for a larger reference"
    see(monitor, list(usual_texts(ENOUGH))[FIRST + 50 :])
    assert monitor.conditions(NOW) == []
    assert reference(monitor) != first
    assert gathered(monitor) is None
    assert monitor.standing() == f"watching, {ENOUGH - FIRST:,} prompts"
    second = reference(monitor)
    see(monitor, list(usual_texts(ENOUGH + LATER))[ENOUGH:])
    assert (reference(monitor), monitor.conditions(NOW)) == (second, [])
    see(monitor, changed_texts(200, "prompt", "new_content"))
    assert monitor.conditions(NOW)


def test_texts_of_a_change_are_not_gathered() -> None:
    monitor = see(drift(), usual_texts(FIRST + WAIT + 200))
    before = gathered(monitor)
    assert before is not None
    assert len(before) >= FIRST + 100
    new = list(changed_texts(2_500, "prompt", "new_content"))
    see(monitor, new)
    assert monitor.conditions(NOW)
    after = gathered(monitor)
    assert after is not None
    assert not {text.request.id for text in new} & set(after)
    assert len(after) < LATER


def test_where_a_change_is_suspected_it_does_not_learn_again_yet() -> None:
    monitor = see(drift(), usual_texts(ENOUGH - 150))
    kept = gathered(monitor)
    assert kept is not None
    assert len(kept) < LATER
    watching = monitor._watching
    assert watching is not None
    watching.alarm_at = -1.0  # so that any evidence is much
    see(monitor, list(usual_texts(ENOUGH + 200))[ENOUGH - 150 :])
    kept = gathered(monitor)
    assert kept is not None
    assert len(kept) >= LATER
    watching.alarm_at = 100.0
    see(monitor, list(usual_texts(ENOUGH + 232))[ENOUGH + 200 :])
    assert gathered(monitor) is None


def test_a_model_elsewhere_is_not_asked_about_all_of_them_again() -> None:
    about = About("drift", "bank", "sha256:abc", "prompt")
    monitor = see(TextDrift(about, SETTINGS, Asked(64)), usual_texts(FIRST + 32))
    assert gathered(monitor) is None


def test_a_first_reference_that_is_large_enough_is_for_good() -> None:
    assert gathered(see(drift(drift_texts_later=1_999), usual_texts(FIRST + 32))) is None
    assert gathered(see(drift(), usual_texts(FIRST + 32))) is not None


def test_it_goes_on_from_its_state_with_identical_results() -> None:
    whole, parts = drift(), drift()
    stream = [*usual_texts(ENOUGH + 300), *changed_texts(150, "prompt", "new_content")]
    for number, text in enumerate(stream):
        whole.see_text(text)
        parts.see_text(text)
        if number % 301 == 0:
            stored = json.loads(json.dumps(parts.state()))
            parts = drift()
            parts.restore(stored)
    assert whole.state() == parts.state()
    assert whole.conditions(NOW) == parts.conditions(NOW) != []


def test_a_topic_that_has_grown_slowly_does_not_become_usual_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitor = see(drift(), usual_texts(FIRST + 50))
    first = reference(monitor)
    monkeypatch.setattr(DriftMonitor, "has_moved", True)
    see(monitor, list(usual_texts(ENOUGH))[FIRST + 50 :])
    assert (reference(monitor), gathered(monitor)) == (first, None)
    told = monitor.standing()
    assert told.endswith("prompts, against its first ones: a topic's share has grown since")
    again = drift()
    again.restore(json.loads(json.dumps(monitor.state())))
    assert again.standing() == told


def test_a_state_from_before_there_was_more_to_say_is_gone_on_from() -> None:
    monitor = see(drift(), [*usual_texts(FIRST + 50), *changed_texts(200, "prompt", "new_content")])
    assert monitor.conditions(NOW)
    older = json.loads(json.dumps(monitor.state()))
    del older["watching"]["kept_first"]
    for opened in older["watching"]["monitor"]["open"]:
        del opened["beside"]
    again = drift()
    again.restore(older)
    assert again.conditions(NOW) == monitor.conditions(NOW)


@pytest.mark.parametrize("damage", [{"gathered": {"texts": []}}, {"before": -1}, {"before": "1"}])
def test_a_damaged_state_is_an_error(damage: dict[str, Any]) -> None:
    monitor = see(drift(), usual_texts(FIRST + 32))
    before = monitor.state()
    with pytest.raises(ValueError, match=r"stat|stored"):
        monitor.restore({**before, "watching": {**before["watching"], **damage}})
    assert monitor.state() == before


def test_what_one_person_said_is_kept_until_then_and_forgotten_with_its_sample() -> None:
    secret = made_text("zebra unicorn", "", "one", 100_000.0)
    monitor = see(drift(), [secret, *usual_texts(FIRST + 31)])
    assert "one" in monitor.kept_requests()
    again = drift()
    again.restore(json.loads(json.dumps(monitor.state())))
    again.forget({"one"})
    assert "unicorn" not in json.dumps(again.state())
    assert "one" not in again.kept_requests()
    see(monitor, list(usual_texts(ENOUGH + 2_100))[FIRST + 31 :])
    assert gathered(monitor) is None
    assert "unicorn" not in json.dumps(monitor.state())
