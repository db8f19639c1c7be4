"""A key that has become slower is named; one that asks for something else, or is busier, is not."""

import json
import math
import random
from collections.abc import Sequence

import pytest

from fairlead.domain.release import short
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, check_condition
from fairlead.monitoring.monitors import key_paces
from fairlead.monitoring.monitors import keys as module
from fairlead.monitoring.monitors.exercise import Made, see
from fairlead.monitoring.monitors.intake import TakesIn
from fairlead.monitoring.monitors.keys import COUNTED_MAX, KEYS_MAX, SlowKeyMonitor
from fairlead.monitoring.monitors.of_release import LOAD
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.times import LatencyMonitor
from fairlead.stats.monitors.evidence import alarm_level
from support.key_traffic import SLOW_FROM, START, STEADY_S, in_spells, seldom
from support.request_traffic import traffic

DIGEST = "sha256:" + "0123456789ab" + 52 * "c"
SETTINGS = MonitorSettings()
KEYS = ("app", "batch", "chat", "desk")


class Asked:
    """Requests of keys in turn; first tokens take the longer the longer the prompt is."""

    def __init__(self, monitor: SlowKeyMonitor | None = None, seed: int = 1) -> None:
        self.monitor = monitor or SlowKeyMonitor("bank", DIGEST, SETTINGS, name_of=str.upper)
        self.dice, self.now = random.Random(seed), 1_000.0

    def feed(
        self,
        n: int,
        keys: Sequence[str] = KEYS,
        *,
        slow: float = 1.0,
        who: Sequence[str] = ("batch",),
        tokens: dict[str, tuple[int, int]] | None = None,
        load: tuple[int, int] = (2, 12),
    ) -> list[Condition]:
        """So many requests; those of `who` take so many times as long.

        Args:
            tokens: By key, the least and the most tokens of its prompts.
        """
        for k in range(n):
            self.now += 1.0
            key = keys[k % len(keys)]
            low, high = (tokens or {}).get(key, (70, 250))
            prompt = int(math.exp(self.dice.uniform(math.log(low), math.log(high))))
            asked = self.dice.randint(*load)
            pace = (1.0 + asked / 10.0) * math.exp(self.dice.gauss(0.0, 0.25))
            pace *= slow if key in who else 1.0
            made = Made(
                key=key, started_at=self.now, prompt_tokens=prompt,
                ttft_ms=(20.0 + prompt) * pace, itl_ms=20.0 * pace,
            )  # fmt: skip
            see(self.monitor, made, load=float(asked))
        return self.monitor.conditions(self.now)


def test_a_key_that_has_become_slower_is_named_and_the_alarm_ends() -> None:
    asked = Asked()
    assert asked.feed(6_000) == []
    assert asked.monitor.standing() == "watching 4 keys"
    began = asked.now
    found = asked.feed(2_500, slow=2.0)
    assert {(dict(one.labels)["key"], dict(one.labels)["outcome"]) for one in found} == {
        ("BATCH", "latency"), ("BATCH", "throughput"),
    }  # fmt: skip
    for one in found:
        check_condition(one)
        labels = dict(one.labels)
        assert (labels["monitor"], labels["release"]) == ("slow_key", short(DIGEST))
        shown = {figure.name: figure.value for figure in one.evidence}
        assert shown["times as long, about"] == pytest.approx(2.0, rel=0.4)
        assert shown["it began about"] == pytest.approx((asked.now - began) / 60.0, abs=8.0)
        assert one.severity is Severity.TICKET
        assert "those of other keys do not" in one.summary
    assert len(asked.feed(2_000, slow=2.0)) == 2
    assert asked.feed(8_000) == []


def test_a_key_whose_prompts_have_changed_their_length_is_not_slow() -> None:
    """Within a class of lengths that take four times as long, and to another class."""
    asked = Asked()
    asked.feed(6_000)
    asked.feed(4_000, tokens={"batch": (180, 250), "chat": (70, 90)})
    assert asked.feed(4_000, tokens={"batch": (900, 1_000), "chat": (4_500, 9_000)}) == []
    assert asked.feed(6_000, tokens={"batch": (900, 1_000), "chat": (4_500, 9_000)}) == []


def test_a_key_so_slow_that_nobody_has_seen_as_many_open_is_named() -> None:
    """What it takes there is not learnt as usual, though 100 % more is tolerated."""
    monitor = SlowKeyMonitor("bank", DIGEST, MonitorSettings(tolerance=1.0))
    asked = Asked(monitor)
    two = ("app", "batch")
    asked.feed(6_000, two, load=(12, 18))
    assert told(monitor) == set()
    asked.feed(1_500, two, slow=4.0, load=(35, 50))
    assert told(monitor) == {"batch"}


def test_more_to_do_and_a_slower_release_are_no_matter_of_a_key() -> None:
    asked = Asked()
    asked.feed(6_000)
    assert asked.feed(4_000, load=(9, 12)) == []
    assert asked.feed(4_000, slow=1.8, who=KEYS) == []
    assert [dict(one.labels)["key"] for one in asked.feed(4_000, slow=3.0, who=("desk",))]


def test_honest_keys_are_not_told_of() -> None:
    """Simulated queues with bursts and waves of load: keys of very different frequency."""
    for seed in range(3):
        monitor = SlowKeyMonitor("bank", DIGEST, SETTINGS)
        dice = random.Random(seed)
        for seen in traffic(12_000, seed):
            key = dice.choices("abcd", (8.0, 4.0, 2.0, 1.0))[0]
            request = seen.request
            assert isinstance(request, Made)
            monitor.see(seen._replace(request=request._replace(key=key)))
        assert monitor.conditions(2e9) == [], seed
        assert monitor.taken[""] > 5_000


def test_it_is_said_of_how_many_keys_it_is_not_known_yet_what_is_usual() -> None:
    """What comes until then is what they are held against."""
    asked = Asked()
    said = []
    for _ in range(60):
        asked.feed(100)
        said.append(asked.monitor.standing())
    assert said[0].startswith("learning, ")
    assert "watching 4 keys, 4 of them not learnt yet" in said
    assert said[-1] == "watching 4 keys"
    first = said.index("watching 4 keys")
    assert all(one == "watching 4 keys" for one in said[first:])
    asked.feed(800, ["new", *KEYS])
    assert asked.monitor.standing() == "watching 5 keys, 1 of them not learnt yet"


def test_the_busiest_keys_are_watched_and_it_is_said_how_many_are_not() -> None:
    asked = Asked()
    small = [f"small {number}" for number in range(60)]
    asked.feed(3_000, [*KEYS * 5, *small])
    said = asked.monitor.standing()
    assert said.startswith(f"watching the {KEYS_MAX} busiest keys, with ")
    assert said.endswith(f"; not {len(small) + len(KEYS) - KEYS_MAX} others")
    assert f"% of the requests, {KEYS_MAX} of them not learnt yet;" in said
    state = asked.monitor.state()
    assert set(KEYS) <= set(state["watched"])
    asked.feed(30_000, ["new", "newer"])
    assert {"new", "newer"} <= set(asked.monitor.state()["watched"])
    asked.feed(3_000, [f"one-time {number}" for number in range(3_000)])
    state = asked.monitor.state()
    assert len(state["counts"]) <= COUNTED_MAX
    assert len(json.dumps(state)) < 500_000


def test_one_key_alone_is_compared_with_nobody() -> None:
    asked = Asked()
    assert "learning" in asked.monitor.standing()
    asked.feed(3_000, ["app"])
    assert asked.feed(3_000, ["app"], slow=5.0, who=["app"]) == []
    assert "no two keys" in asked.monitor.standing()
    without = SlowKeyMonitor("bank", DIGEST, SETTINGS)
    for _ in range(500):
        see(without, Made())
    assert "with a key" in without.standing()


def test_what_watches_all_requests_and_keys_have_one_run_length_together() -> None:
    """A false alarm of any of them is as rare as one of all requests was before."""
    alone = MonitorSettings(off=("slow_key",))
    assert alone.times_run_length == alone.requests_per_false_alarm
    assert SETTINGS.times_run_length == 2.0 * SETTINGS.requests_per_false_alarm
    asked = Asked()
    asked.feed(6_000)
    (pace, *_) = asked.monitor._paces.values()
    assert pace._lasting is not None
    assert pace._lasting.watch._level == alarm_level(2.0 * SETTINGS.requests_per_false_alarm)
    latency = LatencyMonitor("bank", DIGEST, SETTINGS)
    for number in range(1_200):
        see(latency, Made(started_at=float(number), ttft_ms=100.0 + number % 7))
    assert latency._lasting is not None
    assert latency._lasting.watch._level == alarm_level(4.0 * SETTINGS.requests_per_false_alarm)


@pytest.mark.parametrize("cut", [300, 2_500, 7_000, 8_600, 14_000])
def test_it_resumes_to_an_identical_state(cut: int) -> None:
    """Learning, watching, in an alarm and after it."""
    one, other = Asked(), Asked()
    for number, slow in enumerate([1.0] * 65 + [2.5] * 25 + [1.0] * 60):
        if number * 100 == cut:
            kept = json.loads(json.dumps(other.monitor.state(), allow_nan=False))
            other.monitor = SlowKeyMonitor("bank", DIGEST, SETTINGS, name_of=str.upper)
            other.monitor.restore(kept)
        one.feed(100, slow=slow)
        other.feed(100, slow=slow)
    assert other.monitor.state() == one.monitor.state()
    assert other.monitor.conditions(one.now) == one.monitor.conditions(one.now)


@pytest.mark.parametrize(
    "damage",
    [
        {"watched": ["nobody"]}, {"counts": 17}, {"until_choice": 0}, {"usual": {}},
        {"paces": [["app", "charm", "first 3", {}]]},
        {"others": [["first 3", "app", 1.0]]},
        {"others": [["first 3", "no", 1.0, 0.0, 1.0, 1.0, 0.0]]},
        {"others": [["first 3", "app", 1.0, 0.0, 1.0, -1.0, 0.0]]},
        {"others": [["first 3", "app", 1.0, 0.0, 1.0, 1.0, 9.0]]},
        {"usual": {"latency": {"first 3": [[400.0], [1.0]]}, "throughput": {}}},
    ],
)  # fmt: skip
def test_a_damaged_state_is_refused_and_changes_nothing(damage: dict[str, object]) -> None:
    asked = Asked()
    asked.feed(4_000)
    before = asked.monitor.state()
    with pytest.raises(ValueError, match="damaged"):
        asked.monitor.restore({**before, **damage})
    assert asked.monitor.state() == before
    other = SlowKeyMonitor("shop", DIGEST, SETTINGS)
    with pytest.raises(ValueError, match="another monitor"):
        other.restore(before)


def test_it_tests_itself_and_says_what_it_takes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen in (SETTINGS, MonitorSettings(5_000, 1e9, 1.0)):
        assert SlowKeyMonitor("bank", DIGEST, chosen).self_test() == ""
    assert isinstance(SlowKeyMonitor("bank", DIGEST, SETTINGS), TakesIn)
    monkeypatch.setattr(module, "CHOOSE_EVERY", 10**9)
    assert "did not find" in SlowKeyMonitor("bank", DIGEST, SETTINGS).self_test()


def test_answers_that_are_no_streams_are_compared_at_their_own_length() -> None:
    """Per token, short answers take longer: a key whose answers become shorter is not slower."""
    monitor, dice = SlowKeyMonitor("bank", DIGEST, SETTINGS), random.Random(1)

    def feed(n: int, low: int, high: int, slow: float = 1.0) -> list[Condition]:
        for k in range(n):
            key = KEYS[k % 4]
            least, most = (low, high) if key == "chat" else (20, 250)
            tokens = int(math.exp(dice.uniform(math.log(least), math.log(most))))
            pace = math.exp(dice.gauss(0.0, 0.2)) * (slow if key == "chat" else 1.0)
            took = (400.0 + 20.0 * tokens) * pace
            see(
                monitor,
                Made(key=key, stream=False, duration_ms=took, completion_tokens=tokens,
                     started_at=float(k)),
            )  # fmt: skip
        return monitor.conditions(1e5)

    feed(8_000, 20, 250)
    assert feed(6_000, 65, 80) == []
    assert feed(4_000, 65, 80, 2.5)


def test_a_queue_that_hits_first_tokens_more_than_whole_answers_accuses_no_key() -> None:
    """The key that alone streams is not held against those that do not."""
    monitor, dice = SlowKeyMonitor("bank", DIGEST, SETTINGS), random.Random(1)
    now = 0.0
    for number in range(14_000):
        now += 1.0
        queued = number >= 9_000
        pace = math.exp(dice.gauss(0.0, 0.2))
        if number % 2:
            made = Made(key="chat", started_at=now, ttft_ms=100.0 * pace * (8.0 if queued else 1.0))
        else:
            took = 2_000.0 * pace * (1.3 if queued else 1.0)
            made = Made(key="app", started_at=now, stream=False, duration_ms=took,
                        completion_tokens=100)  # fmt: skip
        see(monitor, made)
        assert monitor.conditions(now) == []


def test_who_asks_alone_is_not_held_against_what_others_took_before() -> None:
    asked = Asked()
    assert asked.feed(6_000, ["app", "chat"]) == []
    assert asked.feed(200, ["app"]) == []
    for _ in range(4):
        assert asked.feed(1_000, ["app"], slow=2.0, who=["app"]) == []
    asked.feed(2_000, ["app", "chat"])
    found = asked.feed(4_000, ["app", "chat"], slow=2.0, who=["app"])
    assert {dict(one.labels)["key"] for one in found} == {"APP"}


def told(monitor: SlowKeyMonitor) -> set[str]:
    return {dict(one.labels)["key"] for one in monitor.conditions(2e9)}


@pytest.mark.parametrize("seed", [0, 6])
def test_a_key_that_comes_only_when_there_is_much_to_do_is_not_slow(seed: int) -> None:
    """By what came in the seconds before it would be: hardly more comes than usual."""
    monitor = SlowKeyMonitor("bank", DIGEST, SETTINGS)
    by_what_came = SlowKeyMonitor("bank", DIGEST, SETTINGS)
    steady, accused, by_that = 0, set[str](), set[str]()
    for number, seen in enumerate(in_spells(seed)):
        if seen.request.started_at < START + STEADY_S:
            steady = monitor.taken[""]
        monitor.see(seen)
        by_what_came.see(seen._replace(open=seen.load))
        if number % 50 == 0:
            accused |= told(monitor)
            by_that |= told(by_what_came)
    assert accused | told(monitor) == set()
    assert monitor.taken[""] - steady > 300
    assert by_that == {"batch"}


def test_a_key_that_comes_only_when_there_is_much_to_do_is_found_if_it_is_slow() -> None:
    monitor = SlowKeyMonitor("bank", DIGEST, SETTINGS)
    since = 0
    for seen in in_spells(1, slow=1.5):
        since += seen.request.key == "batch" and seen.request.started_at >= START + SLOW_FROM
        monitor.see(seen)
        if monitor.conditions(2e9):
            break
    assert told(monitor) == {"batch"}
    assert 0 < since < 1_500


@pytest.mark.parametrize("slow", [1.0, 2.0])
def test_keys_with_a_request_in_five_minutes_are_compared(slow: float) -> None:
    monitor = SlowKeyMonitor("bank", DIGEST, SETTINGS)
    for seen in seldom(1, 4_000, slow=slow, since=2_500):
        monitor.see(seen)
    assert monitor.taken[""] > 2_000
    assert told(monitor) == ({"batch"} if slow > 1.0 else set())


@pytest.mark.parametrize("worth", [key_paces.OTHERS_WORTH, 10**9])
def test_a_burst_is_not_held_again_and_again_against_the_same_times_of_others(
    worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are slow for some minutes, in which one key asks much and the other one hardly."""
    monkeypatch.setattr(key_paces, "OTHERS_WORTH", worth)
    monitor, dice = SlowKeyMonitor("bank", DIGEST, SETTINGS), random.Random(1)
    for minute in range(60 * 60):
        hour = minute // 60
        slow = 3.0 if hour == 59 else 1.0
        asked = [("app", 0.0)]
        if minute % 60 in (30, 31, 32):
            asked += [("batch", 0.5 + number) for number in range(59)]
        for key, at in asked:
            pace = math.exp(dice.gauss(0.0, 0.2)) * (slow if minute % 60 >= 30 else 1.0)
            now = 60.0 * minute + at
            see(monitor, Made(key=key, started_at=now, ttft_ms=100.0 * pace, itl_ms=20.0 * pace))
        if hour < 59:
            assert told(monitor) == set()
    assert told(monitor) == (set() if worth < 10**9 else {"batch"})


def test_what_was_learnt_at_another_load_is_no_reference() -> None:
    class Before(SlowKeyMonitor):
        loads = LOAD

    kept = Before("bank", DIGEST, SETTINGS).state()
    with pytest.raises(ValueError, match="another monitor"):
        SlowKeyMonitor("bank", DIGEST, SETTINGS).restore(kept)


@pytest.mark.parametrize("slow", [2.0, 4.0])
def test_what_slows_all_at_once_does_not_accuse_the_key_with_most_requests(slow: float) -> None:
    """It has twelve times as many as the other one, which tells of it as much later."""
    monitor, dice = SlowKeyMonitor("bank", DIGEST, SETTINGS), random.Random(1)
    for number in range(12_000):
        key = "app" if number % 13 == 0 else "batch"
        pace = math.exp(dice.gauss(0.0, 0.25)) * (slow if number >= 8_000 else 1.0)
        made = Made(key=key, started_at=float(number), ttft_ms=100.0 * pace, itl_ms=20.0 * pace)
        see(monitor, made)
        if number % 20 == 0:
            assert told(monitor) == set()
