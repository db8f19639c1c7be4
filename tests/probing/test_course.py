"""The course of a release's probes: what is counted, what is told, and how often it is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.probing.bounds import DAY_S
from fairlead.probing.course import (
    accepted,
    answered,
    begin,
    closed,
    digest_of_text,
    distances,
    evidence,
    failed,
    held_by,
    is_readable,
    wants_round,
)
from fairlead.probing.model import ROUNDS_KEPT, Given, ProbeRule, Probing, Reference
from fairlead.stats.intervals import clopper_pearson

CASES = tuple(f"case-{number}" for number in range(12))
RULE = ProbeRule(
    suite="sha256:" + "ab" * 32,
    cases=12,
    interval_s=100.0,
    reference_rounds=24,
    webhooks=("http://h",),
)


def said(text: str, **changes: object) -> Given:
    return msgspec.structs.replace(Given(digest_of_text(text), text, len(text)), **changes)


Provider = Callable[[str], Given]


def provider(seed: int, noise: float, version: str = "a") -> Provider:
    """A model that gives an answer of its own to a share of the probes, and else the same."""
    dice = random.Random(seed)

    def answer(case: str) -> Given:
        variant = dice.randrange(3) if dice.random() < noise else "usual"
        return said(f"{case} {variant} {version}")

    return answer


def asked(probing: Probing, ask: Provider, rounds: int = 1, rule: ProbeRule = RULE) -> Probing:
    for _ in range(rounds):
        if probing.change is not None:
            break
        now = probing.due_at
        assert wants_round(probing, now)
        for case in CASES:
            probing = answered(probing, case, ask(case), now)
        probing = closed(probing, rule, CASES, now)
        assert is_readable(probing)
    return probing


def begun() -> Probing:
    return begin("bank", "sha256:a", "sha256:set", 1_000.0)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_silent_change_is_found_within_few_rounds_and_told_with_its_answers(noise: float) -> None:
    probing = asked(begun(), provider(1, noise), 40)
    assert (probing.rounds, probing.change) == (40, None)
    assert evidence(probing) < 5
    changed = asked(probing, provider(2, noise, version="b"), 12)
    assert changed.change is not None
    assert changed.change.number == 1
    assert changed.change.round - 40 <= 8
    assert changed.change.e >= 100
    assert changed.change.by_outcome["agreement"] > 100
    assert changed.change.differences[0].before.endswith("a")
    assert changed.change.differences[0].now.endswith("b")
    assert "12 of 12 probes have an answer that the reference has not" in changed.change.why
    assert not changed.is_told
    assert not wants_round(changed, 1e12), "nothing is asked until somebody accepts it"


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_change_is_told_with_the_end_of_the_last_round_that_was_as_before(noise: float) -> None:
    """Between that and the round that tells it, the provider changed."""
    quiet = asked(begun(), provider(1, noise), 40)
    changed = asked(quiet, provider(2, noise, version="b"), 12).change
    assert changed is not None
    assert changed.since is not None
    assert changed.since <= quiet.ended[-1] < changed.at
    assert quiet.ended[-1] - changed.since <= (1 if noise == 0.0 else 3) * RULE.interval_s
    late = asked(asked(begun(), provider(1, noise), 200), provider(2, noise, version="b"), 12)
    assert late.change is not None
    assert len(late.ended) == ROUNDS_KEPT
    assert late.change.since in late.ended
    assert late.ended[-1] == late.change.at


def test_of_rounds_that_an_older_build_did_not_note_the_first_that_is_known_counts() -> None:
    quiet = msgspec.structs.replace(asked(begun(), provider(1, 0.0), 40), ended=())
    changed = asked(quiet, provider(2, 0.0, version="b"), 12)
    assert changed.change is not None
    assert changed.change.since == changed.ended[0] == quiet.due_at


def test_a_provider_that_does_not_change_is_hardly_ever_reported() -> None:
    """60 providers of all kinds of noise over 100 rounds, at a level of 1 in 20."""
    rule = msgspec.structs.replace(RULE, alpha=0.05)
    wrong = 0
    for seed in range(60):
        probing = asked(begun(), provider(seed, random.Random(seed).random() * 0.6), 100, rule)
        wrong += probing.change is not None
    assert clopper_pearson(wrong, 60, 0.98)[0] <= rule.alpha


def test_an_accepted_change_is_the_new_reference_and_the_next_one_is_another() -> None:
    probing = asked(asked(begun(), provider(1, 0.1), 40), provider(2, 0.1, "b"), 12)
    again = accepted(probing, 9_000.0)
    assert (again.change, again.rounds, again.reference, again.is_told) == (None, 0, {}, True)
    assert again.accepted == (probing.change,)
    quiet = asked(again, provider(3, 0.1, "b"), 40)
    assert quiet.change is None
    next_one = asked(quiet, provider(4, 0.1, "a"), 12)
    assert next_one.change is not None
    assert next_one.change.number == 2


def test_white_space_and_case_make_no_other_answer() -> None:
    assert digest_of_text(" Yes,\n it is ") == digest_of_text("yes, it IS")
    assert digest_of_text("yes") != digest_of_text("no")


def test_distances_are_means_over_the_cases() -> None:
    reference = {
        "x": Reference(4, {digest_of_text("yes"): 3, digest_of_text("no"): 1}, "no", 0.0, 2.0),
        "y": Reference(4, {digest_of_text("yes"): 4}, "yes", 0.0, 4.0),
    }
    far = distances(reference, {"x": said("no", score=1.0, chars=0), "y": said("never", chars=0)})
    assert far == {"agreement": (0.75 + 1.0) / 2, "length": 0.0, "score": 0.5}


def test_a_provider_that_is_down_is_reported_as_such_and_its_round_gone_on_with() -> None:
    probing = asked(begun(), provider(1, 0.0), 10)
    due = probing.due_at
    some = answered(probing, CASES[0], provider(1, 0.0)(CASES[0]), due)
    down = failed(failed(some, RULE, "not reached", due + 1), RULE, "not reached", due + 50)
    assert (down.failing_since, down.failure, down.due_at) == (due + 1, "not reached", due + 110)
    assert down.answers == some.answers
    assert (evidence(down), down.change) == (evidence(probing), None)
    assert closed(down, RULE, CASES, due + 60) is down, "a round counts as a whole"
    up = asked(down, provider(1, 0.0))
    assert (up.failing_since, up.failure, up.rounds) == (None, "", 11)


def test_an_answer_is_taken_in_once() -> None:
    once = answered(begun(), "case-1", said("yes", usd=0.5), 1_000.0)
    assert answered(once, "case-1", said("no", usd=0.5), 1_001.0) is once


def test_no_probe_is_sent_on_a_day_that_has_cost_enough() -> None:
    rule = msgspec.structs.replace(RULE, usd_per_day=1.0)
    probing = begun()
    assert held_by(probing, rule, 1_000.0) == ""
    for number in range(2):
        probing = answered(probing, f"case-{number}", said("yes", usd=0.5), 1_000.0)
    assert held_by(probing, rule, 2_000.0) == "today's probes have cost 1.0000 of 1 USD"
    assert held_by(probing, RULE, 2_000.0) == ""
    assert held_by(probing, rule, 1_000.0 + DAY_S) == ""
    tomorrow = answered(probing, "case-3", said("yes", usd=0.25), 1_000.0 + DAY_S)
    assert (tomorrow.spent_usd, tomorrow.sent, tomorrow.usd_in_all) == (0.25, 1, 1.25)


def test_what_the_provider_calls_itself_is_noted_when_it_changes_and_is_no_evidence() -> None:
    probing = answered(begun(), "case-1", said("a", model="m-1", fingerprint="fp-1"), 1_000.0)
    assert (probing.model, probing.fingerprint, probing.notes) == ("m-1", "fp-1", ())
    probing = answered(probing, "case-2", said("a", model="m-1"), 1_001.0)
    assert (probing.fingerprint, probing.notes) == ("fp-1", ())
    probing = answered(probing, "case-3", said("a", model="m-2", fingerprint="fp-1"), 1_002.0)
    assert [(note.since, note.at, note.what) for note in probing.notes] == [
        (1_000.0, 1_002.0, "model: 'm-1' became 'm-2'")
    ]
    assert evidence(probing) == 1.0


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), max_size=400), st.data())
def test_kept_and_read_again_at_any_moment_it_goes_on_to_the_same(
    answers: list[tuple[int, int]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(answers)))
    whole = part = begun()
    for number, (case, answer) in enumerate(answers):
        if number == cut:
            part = msgspec.json.decode(msgspec.json.encode(part), type=Probing)
        for _ in range(1 + (number == cut)):  # after a crash it is asked again
            part = answered(part, CASES[case], said(str(answer)), 1_000.0 + number)
        part = closed(part, RULE, CASES[:4], 1_000.0 + number)
        whole = answered(whole, CASES[case], said(str(answer)), 1_000.0 + number)
        whole = closed(whole, RULE, CASES[:4], 1_000.0 + number)
    counted = msgspec.structs.replace(part, sent=0, sent_in_all=0)
    assert counted == msgspec.structs.replace(whole, sent=0, sent_in_all=0)


def test_rounds_that_were_missed_are_not_made_up_for() -> None:
    late = asked(begun(), provider(1, 0.0))
    assert late.due_at == 1_100.0
    probing = late
    for case in CASES:
        probing = answered(probing, case, said("x"), 5_000.0)
    assert closed(probing, RULE, CASES, 5_000.0).due_at == 5_100.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"cases": 0}, {"interval_s": 0.0}, {"interval_s": float("nan")}, {"reference_rounds": 7},
        {"alpha": 0.0}, {"temperature": 3.0}, {"seed": -1}, {"usd_per_day": float("inf")},
        {"timeout_s": 0.0}, {"webhooks": ("ftp://x",)}, {"webhooks": ("http://x",) * 11},
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="probes"):
        msgspec.structs.replace(RULE, **wrong)
