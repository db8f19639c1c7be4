"""Drift of a release's texts: what is said, when it ends, what is kept, and what is forgotten."""

import json
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from fairlead.embedding.hashed import HashedNgrams  # noqa: E402
from fairlead.evaluation.suite import parse_suite  # noqa: E402
from fairlead.monitoring.conditions import Condition, check_condition  # noqa: E402
from fairlead.monitoring.monitors.drift import BATCH, WAITING_MAX, TextDrift  # noqa: E402
from fairlead.monitoring.monitors.drift_words import About  # noqa: E402
from fairlead.monitoring.monitors.interface import SeenText  # noqa: E402
from fairlead.monitoring.monitors.kept_texts import CHARS_MAX, KEPT_MAX  # noqa: E402
from fairlead.monitoring.monitors.made_texts import (  # noqa: E402
    changed_texts,
    made_text,
    usual_texts,
)
from fairlead.monitoring.monitors.text_settings import DRIFT_MIN, TextSettings  # noqa: E402
from fairlead.monitoring.monitors.topics import (  # noqa: E402
    TYPICAL_CHARS_MAX,
    Explanation,
    as_suite,
    explain,
)
from fairlead.stats.drift.cause import Cause  # noqa: E402
from fairlead.stats.drift.reference import PROMPTS_MIN  # noqa: E402

SETTINGS = TextSettings(drift_texts=1_000, drift_texts_later=1_000)
NOW = 2_000_000.0


def drift(text: str = "prompt", **changed: Any) -> TextDrift:
    name = "drift" if text == "prompt" else "answer_drift"
    settings = changed.pop("settings", SETTINGS)
    embedder = changed.pop("embedder", None) or HashedNgrams(64)
    release = changed.pop("release", "sha256:abc")
    return TextDrift(About(name, "bank", release, text), settings, embedder, **changed)


def see(monitor: TextDrift, texts: Iterable[SeenText]) -> TextDrift:
    for text in texts:
        monitor.see_text(text)
    return monitor


def learnt(text: str = "prompt") -> TextDrift:
    return see(drift(text), usual_texts(1_000, text))


def later(count: int, text: str = "prompt") -> list[SeenText]:
    """Usual texts that were not learnt from."""
    return list(islice(usual_texts(1_000 + count, text), 1_000, None))


def changed(count: int, channel: str, text: str = "prompt") -> list[SeenText]:
    return list(changed_texts(count, text, channel))


def by_channel(found: Sequence[Condition]) -> dict[str, Condition]:
    return {dict(each.labels)["channel"]: each for each in found}


def test_it_learns_first_and_says_how_far_it_is() -> None:
    monitor = see(drift(), usual_texts(120))
    assert monitor.standing() == "learning, 120 of 1,000 prompts"
    assert monitor.conditions(NOW) == []
    see(monitor, usual_texts(980))
    assert monitor.standing().startswith("watching, ")


def test_texts_wait_for_others_for_a_minute_at_most() -> None:
    monitor = learnt()
    assert monitor.conditions(NOW) == []
    first = later(1)[0]
    monitor.see_text(first)
    asked = first.request.started_at
    monitor.conditions(asked + 59.0)
    assert len(monitor.state()["pending"]) == 1
    monitor.conditions(asked + 60.0)
    assert monitor.state()["pending"] == []
    assert monitor.standing() == "watching, 1 prompts"


def test_honest_texts_are_no_alarm() -> None:
    assert see(learnt(), later(3_000)).conditions(NOW) == []


@pytest.mark.parametrize("text", ["prompt", "answer"])
def test_new_content_is_named_by_its_words_and_a_typical_text(text: str) -> None:
    monitor = see(learnt(text), [*later(100, text), *changed(200, "new_content", text)])
    found = by_channel(monitor.conditions(NOW))["new_content"]
    check_condition(found)
    labels = dict(found.labels)
    assert labels == {
        "monitor": "drift" if text == "prompt" else "answer_drift",
        "service": "bank",
        "release": "abc",
        "channel": "new_content",
    }
    assert "guitar" in str(found.quotes) or "concert" in str(found.quotes)
    assert not any(word in f"{found.summary}{found.evidence}" for word in ("guitar", "concert"))
    assert "of what is new, new topic 1" in str(found.evidence)
    assert f"of {text}s are unlike" in found.summary
    figures = {figure.name: figure.value for figure in found.evidence}
    assert 15.0 <= figures["new content, at least"] <= 55.0
    # texts of the change began at 100,000 s
    assert figures["began"] == pytest.approx((NOW - 100_000.0) / 60.0, abs=1.0)


def test_another_mix_names_the_cluster_that_grew() -> None:
    monitor = see(learnt(), [*later(100), *changed(300, "mix")])
    found = by_channel(monitor.conditions(NOW))
    assert set(found) == {"mix"}
    words = ("stolen", "freeze", "plastic", "wallet")
    assert any(word in str(found["mix"].quotes) for word in words)
    assert not any(word in f"{found['mix'].summary}{found['mix'].evidence}" for word in words)
    assert ": topic 1 " in found["mix"].summary
    grown = [each for each in found["mix"].evidence if each.name.startswith("share of ")]
    assert grown
    assert all(each.limit is not None and each.value > each.limit for each in grown)


@pytest.mark.parametrize("channel", ["new_content", "mix"])
def test_it_ends_by_itself_when_texts_are_as_before_and_not_sooner(channel: str) -> None:
    monitor = learnt()
    more = changed(2_000, channel)
    see(monitor, more[:300])
    assert channel in by_channel(monitor.conditions(NOW))
    for start in range(300, 2_000, 100):  # it goes on, and so does the condition
        see(monitor, more[start : start + 100])
        assert channel in by_channel(monitor.conditions(NOW)), start
    see(monitor, later(1_500))
    assert monitor.conditions(NOW) == []
    assert monitor.standing().startswith("watching")  # against the same reference
    see(monitor, more[:300])
    assert channel in by_channel(monitor.conditions(NOW))


def test_its_cause_is_looked_for_as_more_is_known_and_not_at_every_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After twice as many texts; and what it was about is known after a restart."""
    made: list[str] = []

    def counted(cause: Cause, *arguments: Any) -> Explanation:
        made.append(cause.channel)
        return explain(cause, *arguments)

    monkeypatch.setattr("fairlead.monitoring.monitors.watched_texts.explain", counted)
    monitor = see(learnt(), [*later(100), *changed(200, "new_content")])
    found = monitor.conditions(NOW)
    assert found
    made.clear()
    for text in changed(1_200, "new_content")[200:]:
        monitor.see_text(text)
        monitor.conditions(NOW)
    assert 1 <= len(made) <= 14
    made.clear()
    again = drift()
    again.restore(json.loads(json.dumps(monitor.state())))
    assert again.conditions(NOW) == monitor.conditions(NOW)
    assert made == []


def test_what_an_alarm_is_about_is_forgotten_with_its_samples() -> None:
    """Also when its texts are no more among the last ones."""
    monitor = see(learnt(), [*later(100), *changed(200, "new_content")])
    told = [each.id for each in monitor.candidates()]
    assert told
    assert set(told) <= monitor.kept_requests()
    see(monitor, changed(2_300, "new_content")[200:])
    kept = json.dumps(monitor.state())
    gone = {each for each in told if f'"{each}"' in kept}
    assert gone <= monitor.kept_requests()
    monitor.forget(monitor.kept_requests())
    assert monitor.kept_requests() == set()
    assert all(each.quotes == () for each in monitor.conditions(NOW)), "nor are they quoted"
    assert not any(f'"{each}"' in json.dumps(monitor.state()) for each in told)


def test_a_deleted_sample_that_an_alarm_does_not_show_leaves_its_explanation() -> None:
    """Its texts are no more among the last ones: nothing could explain it again."""
    secret = made_text("zebra unicorn", "", "deleted", 100_010.0)
    monitor = see(learnt(), [*later(100), *changed(200, "new_content")])
    assert monitor.candidates()
    see(monitor, [*changed(2_300, "new_content")[200:], secret])
    known = monitor.state()["watching"]["explained"]
    assert known
    monitor.forget({"deleted"})
    assert monitor.state()["watching"]["explained"] == known
    assert "unicorn" not in texts_in(monitor.state())


def test_accepted_it_learns_anew_from_now() -> None:
    monitor = see(learnt(), changed(200, "new_content"))
    assert monitor.conditions(NOW)
    monitor.accept()
    assert monitor.conditions(NOW) == []
    assert monitor.standing() == "learning, 0 of 1,000 prompts"
    more = changed(1_600, "new_content")
    assert see(monitor, more).conditions(NOW) == []
    assert monitor.standing() == "watching, 600 prompts"


def test_it_goes_on_from_its_state_with_identical_results() -> None:
    stream = [*usual_texts(1_010), *later(200), *changed(333, "new_content"), *later(700)]
    whole, parts = drift(), drift()
    told, in_parts = [], []
    for number, text in enumerate(stream):
        whole.see_text(text)
        parts.see_text(text)
        if number % 97 == 0:
            stored = json.loads(json.dumps(parts.state()))
            parts = drift()
            parts.restore(stored)
        if number % 50 == 0:
            told.append(whole.conditions(NOW))
            in_parts.append(parts.conditions(NOW))
    assert told == in_parts
    assert any(told)
    assert not told[-1]
    assert whole.state() == parts.state()


def test_of_its_last_texts_only_the_groups_that_change_are_stored_anew() -> None:
    monitor = see(learnt(), later(2_500))
    before = monitor.state()["watching"]["recent"]
    see(monitor, later(3_000)[2_500:2_564])
    after = monitor.state()["watching"]["recent"]
    assert len(after) > KEPT_MAX / 100
    assert sum(group not in before for group in after) <= 3
    again = drift()
    again.restore(json.loads(json.dumps(monitor.state())))
    assert again.state() == monitor.state()


def test_its_state_is_bounded() -> None:
    monitor = see(learnt(), (made_text("x y " * 5_000, "", f"long-{n}") for n in range(2_100)))
    state = monitor.state()["watching"]
    recent = [text for group in state["recent"] for text in group]
    assert len(recent) == KEPT_MAX
    assert max(len(text) for _, _, text in recent) == CHARS_MAX
    # with hashed n-grams, which have more numbers than word vectors
    whole = see(
        TextDrift(About("drift", "bank", "r", "prompt"), TextSettings()), usual_texts(1_600)
    )
    stored = whole.state()["watching"]
    assert len(stored["reference"]) <= 450_000
    assert len(json.dumps(stored)) <= 850_000


DAMAGES = {
    "of": "another",
    "pending": [["id", 1.0, "x"]] * (WAITING_MAX + BATCH),
    "learning": [["id", "when", "x"]],
    "watching": {},
}


@pytest.mark.parametrize("key", DAMAGES)
def test_a_damaged_state_is_an_error_and_changes_nothing(key: str) -> None:
    monitor = see(learnt(), changed(200, "new_content"))
    before = monitor.state()
    with pytest.raises(ValueError, match=r"stat|stored"):
        monitor.restore({**before, key: DAMAGES[key]})
    assert monitor.state() == before


WATCHING_DAMAGES: dict[str, Any] = {
    "reference": "AAAA",
    "usual": {"a": -1},
    "monitor": {"of": "x"},
    "recent": [],
    "began": {},
    "explained": {"mix": [1]},
}


@pytest.mark.parametrize("key", WATCHING_DAMAGES)
def test_a_damaged_part_of_a_state_is_an_error(key: str) -> None:
    monitor = see(learnt(), changed(200, "new_content"))
    before = monitor.state()
    with pytest.raises(ValueError, match=r"stat|stored"):
        monitor.restore({**before, "watching": {**before["watching"], key: WATCHING_DAMAGES[key]}})
    assert monitor.state() == before


def test_the_state_of_other_settings_is_an_error() -> None:
    with pytest.raises(ValueError, match="other settings"):
        drift(settings=TextSettings(drift_texts=1_001)).restore(learnt().state())


def texts_in(state: Any) -> str:
    return json.dumps(state, ensure_ascii=False)


def test_what_is_deleted_is_forgotten_while_learning_and_while_watching() -> None:
    secret = made_text("zebra unicorn", "", "deleted", 100_010.0)
    monitor = see(drift(), [*usual_texts(40), secret, *later(10)])
    assert "unicorn" in texts_in(monitor.state())
    monitor.forget({"deleted"})
    assert "unicorn" not in texts_in(monitor.state())
    assert monitor.standing() == "learning, 50 of 1,000 prompts"

    monitor = see(learnt(), [*changed(100, "new_content"), secret, *changed(100, "new_content")])
    monitor.conditions(NOW)
    assert "unicorn" in texts_in(monitor.state())
    monitor.forget({"deleted"})
    assert "unicorn" not in texts_in(monitor.state())
    # all that the alarm could show
    every = {text.request.id for text in changed(200, "new_content")}
    monitor.forget(every)
    assert monitor.conditions(NOW)
    assert "guitar" not in str(monitor.conditions(NOW))
    assert all(case.kind == "grown" for case in monitor.candidates())


def test_words_of_one_person_are_in_no_state_once_it_has_learnt() -> None:
    texts = [made_text("zebra unicorn", "", "one"), *usual_texts(999)]
    monitor = see(drift(), texts)
    assert "unicorn" in texts_in(monitor.state())
    assert monitor.conditions(NOW) == []
    assert monitor.standing() == "watching, 0 prompts"
    assert "unicorn" not in texts_in(monitor.state())


def test_an_alarm_becomes_cases_that_differ_each_with_its_request() -> None:
    more = changed(300, "new_content")
    monitor = see(learnt(), more)
    assert monitor.conditions(NOW)
    cases = monitor.candidates(per_cluster=4)
    asked = {text.request.id: text.prompt for text in more}
    new = [case for case in cases if case.kind == "new"]
    assert 2 <= len(new) <= 12
    assert all(asked[case.id] == case.text for case in new)
    assert len({case.id for case in cases}) == len(cases)
    suite = parse_suite(as_suite(cases), "jsonl")
    assert [case.input for case in suite.cases] == [case.text for case in cases]
    assert all(case.expected is None and case.tags[0] == "drift" for case in suite.cases)
    assert learnt().candidates() == ()


def test_prompts_that_are_all_the_same_are_told_and_it_goes_on_learning() -> None:
    monitor = see(drift(), (made_text("ping", "", str(n)) for n in range(1_100)))
    assert "nothing to learn from" in monitor.standing()
    see(monitor, usual_texts(1_000))
    assert monitor.standing().startswith("watching")


def test_texts_that_are_not_kept_are_not_seen() -> None:
    monitor = see(drift(), [made_text("", "an answer"), made_text("  \n", "an answer")])
    assert monitor.standing() == "learning, 0 of 1,000 prompts"


class Failing:
    """An embedder that fails when it is told to."""

    name, dimension = "failing-16", 16

    def __init__(self) -> None:
        self.fails = False

    def embed(self, texts: Sequence[str]) -> Any:
        rows = np.array([random.Random(text).choices((-1.0, 1.0), k=16) for text in texts])
        return (rows * np.nan if self.fails else rows).astype(np.float32)


def test_an_embedder_that_fails_is_an_error_at_once_and_in_the_self_test() -> None:
    embedder = Failing()
    monitor = see(drift(embedder=embedder), usual_texts(1_000))
    assert monitor.self_test() == ""
    assert monitor.conditions(NOW) == []
    assert monitor.standing().startswith("watching")
    embedder.fails = True
    assert "failing-16 fails" in monitor.self_test()
    with pytest.raises(ValueError, match="not finite"):
        see(monitor, later(BATCH * 2))
    embedder.fails = False
    assert see(monitor, later(BATCH)).conditions(NOW) == []  # and it goes on


def test_the_self_test_fails_where_the_monitor_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drift().self_test() == ""
    assert drift("answer").self_test() == ""
    monkeypatch.setattr(TextDrift, "_watch", lambda *_: None)
    assert drift().self_test() == "did not find new_content in made texts"


def kept(monitor: TextDrift) -> Any:
    return json.loads(json.dumps(monitor.state()))


def test_the_next_release_goes_on_with_what_is_asked() -> None:
    before = see(learnt(), later(200))
    heir = drift(release="sha256:def")
    heir.inherit(kept(before))
    assert heir.standing() == before.standing()
    again = drift(release="sha256:def")
    again.restore(kept(heir))
    see(again, changed(200, "new_content"))
    (told, *_) = again.conditions(NOW)
    assert dict(told.labels)["release"] == "def"


def test_an_open_alarm_is_none_of_the_next_release() -> None:
    before = see(learnt(), [*later(100), *changed(200, "new_content")])
    assert before.conditions(NOW)
    heir = see(drift(release="sha256:def"), usual_texts(40))
    heir.inherit(kept(before))
    assert heir.conditions(NOW) == []
    assert heir.standing() == "learning, 40 of 1,000 prompts"


def test_how_it_answers_each_release_learns_itself() -> None:
    heir = drift("answer", release="sha256:def")
    heir.inherit(kept(learnt("answer")))
    assert heir.standing().startswith("learning, 0 of ")


def test_what_has_learnt_nothing_yet_is_nothing_to_inherit() -> None:
    heir = see(drift(release="sha256:def"), [*usual_texts(1_000), *later(64)])
    heir.inherit(kept(see(drift(), usual_texts(20))))
    assert heir.standing().startswith("watching")
    other = see(drift(embedder=HashedNgrams(32)), [*usual_texts(1_000), *later(64)])
    with pytest.raises(ValueError, match="other settings"):
        heir.inherit(kept(other))


def test_a_typical_text_is_cut() -> None:
    long = (
        made_text(f"{text.prompt} {'very ' * 40}", "", text.request.id, text.request.started_at)
        for text in changed(300, "new_content")
    )
    (found, *_) = see(learnt(), long).conditions(NOW)
    quoted = [part for quote in found.quotes for part in quote.split('"')[1::2]]
    assert any(part.endswith("…") for part in quoted)
    assert all(len(part) <= TYPICAL_CHARS_MAX for part in quoted)


def test_a_reference_needs_as_many_texts_as_the_settings_ask_for() -> None:
    assert DRIFT_MIN == PROMPTS_MIN
