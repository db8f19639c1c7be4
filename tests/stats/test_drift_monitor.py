"""Both channels: quiet on honest requests, soon and right about the cause on changed ones."""

import json
from dataclasses import replace
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.drift import reference as reference_module  # noqa: E402
from fairlead.stats.drift.cause import Recent  # noqa: E402
from fairlead.stats.drift.mix import Cells  # noqa: E402
from fairlead.stats.drift.monitor import DriftMonitor, Sensitivity  # noqa: E402
from fairlead.stats.drift.novelty import KINDS, LEVELS, STAKES  # noqa: E402
from fairlead.stats.drift.reference import Reference, fit, halves, unit_rows  # noqa: E402
from fairlead.stats.drift.stored import from_bytes, to_bytes  # noqa: E402
from fairlead.stats.drift.usual import SIZE_MAX, WAIT, Allowed, Usual  # noqa: E402
from support.questions import TOPICS, Questions  # noqa: E402


@pytest.fixture(scope="module")
def reference() -> Reference:
    return fit(Questions(1).usual(3_000))


def first_alarm(monitor: DriftMonitor, vectors: Any) -> Any:
    """Of a stream, taken in by a hundred; None if there is none."""
    for start in range(0, len(vectors), 100):
        if alarms := monitor.update(vectors[start : start + 100]):
            return alarms[0]
    return None


def test_honest_requests_raise_no_alarm(reference: Reference) -> None:
    for seed in range(3):
        monitor = DriftMonitor(reference)
        assert first_alarm(monitor, Questions(100 + seed).usual(3_000)) is None
        assert monitor.seen == 3_000


def test_false_alarms_keep_to_the_threshold_without_any_tolerance() -> None:
    """P(alarm within n requests) <= n / A, over fresh references, each with a fresh stream.

    That the streams are long enough to tell is seen from references that are calibrated on what
    they were fitted to: they alarm more often than that.
    """
    chosen = Sensitivity(1_000, novelty_tolerance=1.0, mix_tolerance=1.0)
    alarms, wrong, streams = 0, 0, 8
    for seed in range(streams):
        vectors = Questions(5_000 + seed).usual(1_000)
        made, half = fit(vectors), unit_rows(vectors[halves(1_000)[0]])
        again = replace(made, scores=np.sort(made.novelty_scores(half), axis=1))
        stream = Questions(6_000 + seed).usual(500)
        alarms += first_alarm(DriftMonitor(made, chosen), stream) is not None
        wrong += first_alarm(DriftMonitor(again, chosen), stream) is not None
    assert alarms <= streams * 500 / 1_000 < wrong


def sessions(seed: int, count: int, length: int = 8) -> Any:
    """Each session asks about something of its own, in nearly the same words each time."""
    draw = np.random.default_rng(seed)
    about = np.repeat(draw.standard_normal((count // length, 32)), length, axis=0)
    return about + 0.02 * draw.standard_normal(about.shape)


def test_a_new_session_is_as_new_as_those_that_calibrate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split by rows, each session is fitted to in part, and a new one is like nothing before."""
    vectors, live = sessions(1, 4_000), sessions(2, 2_000)
    by_blocks = fit(vectors)
    assert by_blocks.novelty.phi >= 4
    assert first_alarm(DriftMonitor(by_blocks), live) is None

    def by_rows(count: int) -> Any:
        order = np.random.default_rng(0).permutation(count)
        return np.sort(order[: count // 2]), np.sort(order[count // 2 :])

    monkeypatch.setattr(reference_module, "halves", by_rows)
    alarm = first_alarm(DriftMonitor(fit(vectors)), live)
    assert alarm is not None
    assert alarm["at"] < 500


@pytest.mark.parametrize(("share", "most"), [(0.1, 250), (0.25, 100)])
def test_new_content_is_found_and_called_new(reference: Reference, share: float, most: int) -> None:
    delays, dated = [], []
    for seed in range(5):
        questions = Questions(200 + seed)
        monitor = DriftMonitor(reference)
        assert first_alarm(monitor, questions.usual(500)) is None
        alarm = first_alarm(monitor, questions.with_new(2_000, share))
        assert alarm is not None
        assert alarm["cause"].channel == "novelty"
        delays.append(alarm["at"] + 1 - 500)
        dated.append(alarm["cause"].changed_at - 500)
        assert 0.0 <= alarm["cause"].new_share <= share
    assert np.median(delays) <= most
    assert abs(np.median(dated)) <= 40


def test_the_same_questions_in_other_shares_are_called_a_mix(reference: Reference) -> None:
    for seed in range(3):
        questions = Questions(300 + seed)
        monitor = DriftMonitor(reference)
        assert first_alarm(monitor, questions.usual(500)) is None
        alarm = first_alarm(monitor, questions.surge(3_000, topic=7, share=0.2))
        assert alarm is not None
        cause = alarm["cause"]
        assert cause.channel == "mix"
        assert cause.new_share <= 0.02
        # the cluster that grew most is the one in which that topic lies
        lies, _ = reference_cell(reference, questions.of([7] * 50))
        assert lies in [each.cell for each in cause.grown[:3]]
        assert cause.grown[0].share > cause.grown[0].reference_share
        assert all(500 - 100 <= number <= alarm["at"] for number in cause.grown[0].requests)


def test_what_is_new_beside_the_old_is_one_change_for_as_long_as_it_lasts(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own requests are not taken for the old when it alarms again, also after a restart."""

    def is_unlike(before: Recent, since: Recent, cell: int) -> bool:
        """As ranks would tell: what came since is unlike all but itself."""
        return 0 < before.first + before.cells.size <= 1_600 and before.cells.size > 0

    monkeypatch.setattr("fairlead.stats.drift.monitor.is_unlike", is_unlike)
    questions, monitor = Questions(800), DriftMonitor(reference)
    monitor.update(questions.usual(1_500))
    told = []
    for part in range(30):
        found = monitor.update(questions.surge(200, topic=7, share=0.2))
        told += [alarm["cause"].channel for alarm in found]
        assert set(monitor.open) <= {"novelty"}
        if part in (5, 20):
            stored = json.loads(json.dumps(monitor.state()))
            monitor = DriftMonitor(reference)
            monitor.restore(stored)
    assert told == ["novelty"] * len(told)
    assert len(told) >= 3  # also when nothing of before the change is among the recent ones
    monkeypatch.setattr("fairlead.stats.drift.monitor.is_unlike", lambda *_: False)
    monitor.update(questions.surge(2_000, topic=11, share=0.3))
    assert "mix" in monitor.open  # another topic is by itself


def test_what_is_new_goes_on_when_what_grew_beside_the_old_has_ended(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bet by which new content will be over is not replaced by one on a cluster's share."""
    questions, monitor = Questions(810), DriftMonitor(reference)
    monitor.update(questions.usual(500))
    while "novelty" not in monitor.open:
        monitor.update(questions.with_new(100, 0.25))
    bets = KINDS * len(LEVELS) * len(STAKES)  # of novelty, which come first
    monkeypatch.setattr("fairlead.stats.drift.monitor.is_unlike", lambda *_: True)
    told = []
    while not told or told[-1] != "beside":
        before = monitor.state()["open"][0]["at"]
        both = np.vstack([questions.surge(60, topic=7, share=0.6), questions.with_new(40, 0.5)])
        monitor.update(questions.draw.permutation(both))
        (opened,) = monitor.state()["open"]
        told.append("beside" if opened["beside"] and opened["at"] != before else "")
        assert len(told) < 20
    assert opened["bet"] < bets


def test_a_topic_beside_the_old_is_new_though_another_alarm_is_open_for_long(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, monitor = Questions(820), DriftMonitor(reference)
    monitor.update(questions.usual(500))
    for _ in range(25):
        monitor.update(questions.surge(100, topic=11, share=0.3))
    assert set(monitor.open) == {"mix"}
    sizes = []

    def is_unlike(before: Recent, since: Recent, cell: int) -> bool:
        sizes.append(before.cells.size)
        return before.cells.size > 0

    monkeypatch.setattr("fairlead.stats.drift.monitor.is_unlike", is_unlike)
    while "novelty" not in monitor.open:
        monitor.update(questions.surge(100, topic=7, share=0.3))
        assert monitor.seen < 8_000
    assert 0 in sizes  # of before the first alarm nothing is kept any more


def test_a_share_that_has_grown_is_seen_though_it_was_no_alarm(reference: Reference) -> None:
    monitor, questions = DriftMonitor(reference), Questions(91)
    monitor.update(questions.usual(3_000))
    assert not monitor.has_moved
    joined = monitor._usual.joined
    monitor._usual.counts = monitor._usual.counts + np.where(joined == joined.max(), 400, 0)
    assert monitor.has_moved


def reference_cell(reference: Reference, vectors: Any) -> tuple[int, float]:
    """The cell in which most of the vectors lie, and their share."""
    from fairlead.stats.drift.clustering import nearest

    which, _ = nearest(unit_rows(vectors), reference.cells)
    counts = np.bincount(which)
    return int(counts.argmax()), float(counts.max() / counts.sum())


def test_bursts_are_learnt_and_then_no_alarm() -> None:
    """Without what is learnt from the reference's blocks, the same stream alarms."""
    bursty = fit(Questions(11).bursts(10_000, 200))
    assert bursty.mix.phi > 3.0
    assert bursty.mix.length >= 100
    assert bursty.novelty.phi > 1.0
    assert first_alarm(DriftMonitor(bursty), Questions(12).bursts(10_000, 200)) is None
    plain = fit(np.random.default_rng(0).permutation(Questions(11).bursts(10_000, 200)))
    assert plain.mix.phi == 1.0
    alarm = first_alarm(DriftMonitor(plain), Questions(12).bursts(10_000, 200))
    assert alarm is not None
    assert alarm["cause"].channel == "mix"


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_it_goes_on_from_its_state_as_if_nothing_had_been(
    reference: Reference, share: float
) -> None:
    vectors = Questions(4).with_new(300, share)
    one, two = DriftMonitor(reference), DriftMonitor(reference)
    whole = [*one.update(vectors[:150]), *one.update(vectors[150:])]
    before = two.update(vectors[:150])
    again = DriftMonitor(from_bytes(to_bytes(reference)))
    again.restore(json.loads(json.dumps(two.state())))
    assert [*before, *again.update(vectors[150:])] == whole
    assert again.state() == one.state()
    assert bool(whole) == (share > 0)


def test_the_cause_becomes_more_certain_with_more_requests(reference: Reference) -> None:
    questions = Questions(21)
    monitor = DriftMonitor(reference)
    alarm = first_alarm(monitor, questions.with_new(1_000, 0.25))
    assert alarm is not None
    monitor.update(questions.with_new(1_500, 0.25))
    later = monitor.cause(alarm["cause"].channel, alarm["cause"].changed_at)
    assert alarm["cause"].new_share < later.new_share <= 0.25
    assert later.new_share >= 0.15
    assert later.requests > alarm["cause"].requests


def test_new_requests_are_named(reference: Reference) -> None:
    monitor = DriftMonitor(reference)
    usual, new = Questions(31).usual(60), Questions(32).of([TOPICS] * 20)
    alarm = first_alarm(monitor, np.vstack([usual, new]))
    assert alarm is not None
    assert len(alarm["cause"].novel) >= 3
    assert set(alarm["cause"].novel[:3]) <= set(range(60, 80))


def test_honest_requests_join_what_is_usual_late_and_up_to_a_bound(reference: Reference) -> None:
    monitor, questions = DriftMonitor(reference), Questions(81)
    monitor.update(questions.usual(WAIT + 50))
    usual = Usual(reference)
    assert usual.size == 1_500
    usual.restore(monitor.state()["usual"])
    assert usual.size == 1_500  # too few that have waited
    for _ in range(100):
        monitor.update(questions.usual(100))
    assert monitor.open == {}
    usual.restore(monitor.state()["usual"])
    assert usual.size == usual.counts.sum() == SIZE_MAX
    # and what it knows better now it tells sooner
    late, early = DriftMonitor(reference), monitor
    told = [first_alarm(each, Questions(82).with_new(800, 0.06)) for each in (early, late)]
    assert None not in told
    delays = [told[0]["at"] - (WAIT + 50 + 10_000), told[1]["at"]]
    assert 0 < delays[0] < delays[1]


def test_what_comes_at_once_joins_as_well_and_no_more_than_there_is_room(
    reference: Reference,
) -> None:
    monitor = DriftMonitor(reference)
    monitor.update(Questions(84).usual(SIZE_MAX + WAIT))
    again = DriftMonitor(reference)
    again.restore(monitor.state())
    assert again.state() == monitor.state()
    usual = Usual(reference)
    usual.restore(monitor.state()["usual"])
    assert usual.size == SIZE_MAX
    assert monitor.state()["usual"]["waiting_cells"] == []


def test_nothing_of_a_change_becomes_usual(reference: Reference) -> None:
    monitor, questions = DriftMonitor(reference), Questions(83)
    assert first_alarm(monitor, questions.with_new(400, 0.25)) is not None
    for _ in range(30):
        monitor.update(questions.with_new(100, 0.25))
    usual = Usual(reference)
    usual.restore(monitor.state()["usual"])
    assert np.array_equal(usual.scores, reference.scores)
    assert monitor.state()["usual"]["waiting_cells"] == []
    assert "novelty" in monitor.open


def test_what_comes_too_slowly_to_be_told_does_not_become_usual(reference: Reference) -> None:
    usual = Usual(reference, [Allowed(0.02, 0.028)])
    dice = np.random.default_rng(5)

    def see(unlike: float) -> None:
        at = dice.integers(0, 1_470, 200)
        at[dice.random(200) < unlike] = 1_499
        usual.see(reference.scores[:, at], np.zeros(200, np.int64))

    for _ in range(30):
        see(0.02)
    honest = usual.size
    assert honest > 4_000
    for _ in range(60):
        see(0.08)
    told = usual.size
    assert told < SIZE_MAX
    assert (usual.scores[0] >= reference.scores[0, -30]).mean() < 0.033, "and not 0.08"
    for _ in range(60):
        see(0.0)
    assert usual.size > told, "what is honest joins again"


@pytest.mark.parametrize("distinct", [1, 3, 20, 77])
def test_texts_that_come_again_and_again_become_usual(reference: Reference, distinct: int) -> None:
    """As a classifier's answers do: many have the same score as the reference's quantile."""
    dice = np.random.default_rng(7)
    values = np.sort(dice.normal(size=(2, distinct)).astype(np.float32), axis=1)

    def scores(count: int, extra: float = 0.0) -> Any:
        made = values[:, dice.integers(0, distinct, count)]
        made[:, dice.random(count) < extra] = values[:, -1:] + 1.0
        return made

    told = replace(reference, scores=np.sort(scores(1_500), axis=1))
    allowed = [Allowed(0.05, 0.065), Allowed(0.02, 0.028)]
    usual = Usual(told, allowed)
    for _ in range(60):
        usual.see(scores(200), np.zeros(200, np.int64))
    assert usual.size == SIZE_MAX
    usual = Usual(told, allowed)
    for _ in range(60):
        usual.see(scores(200, extra=0.10), np.zeros(200, np.int64))
    assert usual.size < 2_500, "and what is unlike any of them does not"


def test_limits_of_shares_become_narrower_only(reference: Reference) -> None:
    cells = Cells(reference)
    before = cells.honest
    grown = reference.cell_counts.copy()
    grown[0] += grown.sum()
    cells.learn(grown)
    assert (cells.honest <= before).all()
    assert cells.honest[0] == before[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_none_is_an_error_and_nothing_is_taken_in(
    reference: Reference, bad: float
) -> None:
    monitor = DriftMonitor(reference)
    vectors = Questions(41).usual(5)
    vectors[3] = bad
    with pytest.raises(ValueError, match="vector 3"):
        monitor.update(vectors)
    assert monitor.seen == 0


def test_vectors_of_another_length_are_an_error(reference: Reference) -> None:
    with pytest.raises(ValueError, match="rows of 32 numbers"):
        DriftMonitor(reference).update(np.ones((2, 16)))


OPEN = {
    "channel": "novelty", "at": 10, "changed_at": 5, "bet": 0, "against": 1.0, "beside": [],
}  # fmt: skip
NOT_OPEN: tuple[dict[str, object], ...] = (
    {"channel": "other"},
    {"bet": 10_000},
    {"channel": "mix"},  # bet 0 is one of novelty
    {"bet": 0.0},
    {"changed_at": 11},
    {"beside": [10_000]},
    {"changed_at": -1},
    {"against": 50.0},
    {"against": -1.0},
)


def test_an_alarm_is_open_while_the_change_goes_on_and_then_over(reference: Reference) -> None:
    monitor, questions = DriftMonitor(reference), Questions(71)
    monitor.update(questions.usual(200))
    assert monitor.open == {}
    for _ in range(10):
        monitor.update(questions.with_new(200, 0.25))
        assert abs(monitor.open["novelty"] - 200) <= 80  # since when, also after further alarms
    stored = json.loads(json.dumps(monitor.state()))
    monitor = DriftMonitor(reference)
    monitor.restore(stored)
    assert "novelty" in monitor.open
    monitor.update(questions.usual(1_000))
    assert monitor.open == {}


def test_a_damaged_state_is_an_error(reference: Reference) -> None:
    monitor = DriftMonitor(reference)
    monitor.update(Questions(51).usual(20))
    good = monitor.state()
    for bad in (
        {"cells": [9_999] * 20},
        {"cells": [0] * 5_000},
        {"p_values": [[0.5] * 20]},
        {"p_values": [[0.0] * 20] * 2},
        {"p_values": [[1.5] * 20] * 2},
        {"usual": {**good["usual"], "scores": "AAAA"}},
        {"usual": {**good["usual"], "scores": good["usual"]["waiting"]}},
        {"usual": {**good["usual"], "scores": "é"}},
        {"usual": {**good["usual"], "counts": good["usual"]["counts"][:-1]}},
        {"usual": {**good["usual"], "counts": [0.5] * len(good["usual"]["counts"])}},
        {"usual": {**good["usual"], "waiting_cells": [0] * 19}},
        {"usual": {**good["usual"], "waiting_cells": [9_999] * 20}},
        {"witness": {**good["witness"], "seen": -1}},
        {"witness": {**good["witness"], "means": [0.0]}},
        {"witness": {**good["witness"], "sides": [5.0] * len(good["witness"]["sides"])}},
        {"witness": {**good["witness"], "waiting": [[0.0] * 32]}},
        *({"open": [{**OPEN, **wrong}]} for wrong in NOT_OPEN),
    ):
        fresh = DriftMonitor(reference)
        before = fresh.state()
        with pytest.raises(ValueError, match=r"state|stored"):
            fresh.restore({**good, **bad})  # type: ignore[typeddict-item]
        assert fresh.state() == before  # nothing of it was left behind


def test_the_state_of_another_reference_or_sensitivity_is_an_error(reference: Reference) -> None:
    """Same shapes, other meaning."""
    state = DriftMonitor(reference).state()
    shares = reference.cell_counts[::-1].copy()
    shares[0] += 1
    for other in (
        DriftMonitor(replace(reference, cell_counts=shares)),
        DriftMonitor(reference, Sensitivity(mix_tolerance=2.0)),
    ):
        with pytest.raises(ValueError, match="another reference"):
            other.restore(state)


def test_one_by_one_is_nearly_the_same_as_in_batches(reference: Reference) -> None:
    """A rank may differ by one, where a sum ends in another digit; alarms come as soon."""
    vectors = Questions(61).with_new(400, 0.2)
    one, many = DriftMonitor(reference), DriftMonitor(reference)
    singly = [alarm for vector in vectors for alarm in one.update(vector[None])]
    together = many.update(vectors)
    p_values = [np.array(each.state()["p_values"]) for each in (one, many)]
    assert np.abs(p_values[0] - p_values[1]).max() <= 1.01 / (1 + reference.scores.shape[1])
    cells = [np.array(each.state()["cells"]) for each in (one, many)]
    assert (cells[0] != cells[1]).mean() <= 0.01
    assert len(singly) == len(together) > 0
    assert abs(singly[0]["at"] - together[0]["at"]) <= 10


@pytest.mark.parametrize("tolerance", [0.5, np.nan, 100.0])
def test_a_tolerance_out_of_range_is_an_error(reference: Reference, tolerance: float) -> None:
    with pytest.raises(ValueError, match="novelty tolerance"):
        DriftMonitor(reference, Sensitivity(novelty_tolerance=tolerance))
    with pytest.raises(ValueError, match="mix tolerance"):
        DriftMonitor(reference, Sensitivity(mix_tolerance=tolerance))
