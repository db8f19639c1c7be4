"""The way back through a service's promotions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.control.shipping.documents import RolloutDocument, previous_of, way_back
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.domain.errors import Conflict, NotFound
from fairlead.rollout.machine import new_rollout
from fairlead.rollout.plan import Plan
from fairlead.rollout.suites import SuiteMetric


def promoted(release: str, *, goes_back: bool = False, replicas: int = 1) -> RolloutDocument:
    plan = Plan(champion_replicas=replicas)
    spec = ServiceSpec("bank", digest(release), release, plan)
    rollout = new_rollout(
        id="ro", service="bank", release=spec.release, name=release, champion=None, plan=plan,
        gates=0, now=0.0,
    )  # fmt: skip
    return RolloutDocument(spec, rollout, goes_back)


def digest(release: str) -> str:
    return f"sha256:{ord(release):064x}"


def history(text: str) -> list[RolloutDocument]:
    """Shipped are those in small letters, gone back to those in capitals."""
    return [promoted(each.lower(), goes_back=each.isupper()) for each in text]


def back(text: str) -> str | None:
    """The release before the last one of a history; None if there is none."""
    documents = history(text)
    try:
        return way_back("bank", documents[-1].spec.release, documents, None).name
    except Conflict:
        return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", None), ("ab", "a"), ("abc", "b"), ("abcB", "a"), ("abcBA", None), ("abcA", None),
        ("abcBd", "b"), ("abcAd", "a"), ("aba", "b"), ("abaB", "a"), ("abaBA", None),
        ("abcBC", "b"), ("abcAC", "a"), ("abacA", "b"),
    ],
)  # fmt: skip
def test_the_way_back_leaves_out_what_was_left_behind(text: str, expected: str | None) -> None:
    """Small letters were shipped, capitals gone back to."""
    assert back(text) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdABCD"), min_size=1, max_size=12))
def test_going_back_by_default_ends_and_agrees_with_what_is_kept_as_previous(
    moves: list[str],
) -> None:
    """Each time one promotion further, so that it cannot go round."""
    text = ""
    for move in moves:
        if move.lower() != text[-1:].lower():
            text += move if move.lower() in text.lower() else move.lower()
    for _ in range(len(moves)):
        release = back(text)
        if release is None:
            break
        kept = previous_of(digest(release), history(text))
        text += release.upper()
        assert kept == (None if back(text) is None else digest(back(text) or ""))
    assert back(text) is None


def test_a_release_named_comes_back_by_the_spec_of_its_last_promotion() -> None:
    """Without gates and canary."""
    documents = [promoted("a", replicas=2), promoted("b"), promoted("a", replicas=3), promoted("c")]
    spec = way_back("bank", digest("c"), documents, digest("a"))
    assert (spec.name, spec.plan.champion_replicas, spec.plan.steps, spec.gates) == ("a", 3, (), ())


def test_what_was_gone_back_to_can_be_shipped_as_it_is() -> None:
    """With more replicas, say: no suite of a gate that is gone, and of steps that are not there."""
    (was,) = history("a")
    plan = msgspec.structs.replace(was.spec.plan, suites=(SuiteMetric("answers", "quality"),))
    suited = msgspec.structs.replace(was, spec=msgspec.structs.replace(was.spec, plan=plan))
    check_spec(way_back("bank", digest("b"), [suited, promoted("b")], None))


def test_what_cannot_be_gone_back_to_is_refused_with_what_can() -> None:
    documents = history("abcBA")
    with pytest.raises(Conflict, match="no earlier") as refused:
        way_back("bank", digest("a"), documents, None)
    assert refused.value.hint == (
        "name a former champion with --to: b (000000000000), c (000000000000)"
    )
    with pytest.raises(Conflict, match="is the champion already"):
        way_back("bank", digest("a"), documents, digest("a"))
    with pytest.raises(NotFound, match="has never been its champion") as unknown:
        way_back("bank", digest("a"), documents, digest("d"))
    assert "b (" in (unknown.value.hint or "")
    with pytest.raises(Conflict) as nothing:
        way_back("bank", digest("a"), history("a"), None)
    assert nothing.value.hint is None
