"""What is advised at the end of a rollout or drill can be done: its keys are the manifest's."""

from __future__ import annotations

import re

import pytest

from fairlead.manifest.schema import manifest_vocabulary
from fairlead.rollout.endings import ADVICE, DRILL_ADVICE

_DOTTED = re.compile(r"\b[a-z_]+(?:\.[a-z_]+)+\b")
_SET = re.compile(r"\b([a-z_]+): (?:true|false|hold)\b")
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def keys_in(advice: str) -> tuple[set[str], set[str]]:
    """The paths, and the keys without one, that a text names."""
    text = re.sub(r"docs/\S+|`[^`]*`", "", advice)
    paths = set(_DOTTED.findall(text))
    rest = _DOTTED.sub("", text)
    return paths, {*_SET.findall(rest), *_SNAKE.findall(rest)}


def is_there(path: str) -> bool:
    """Whether the manifest has such a key, at such a place where one is named."""
    place, _, key = path.rpartition(".")
    places = [found.replace("[]", "") for found in manifest_vocabulary().places_of(key)]
    return place in places if place else bool(places)


@pytest.mark.parametrize("advice", sorted({*ADVICE.values(), *DRILL_ADVICE.values()} - {""}))
def test_every_key_that_advice_names_is_one_of_the_manifest(advice: str) -> None:
    paths, keys = keys_in(advice)
    assert [path for path in sorted(paths | keys) if not is_there(path)] == []


def test_such_keys_are_found_in_advice() -> None:
    """And one that there is not is known as such."""
    text = "raise judge.budget, or set promotes: false within settle_seconds (docs/drills.md)"
    assert keys_in(text) == ({"judge.budget"}, {"promotes", "settle_seconds"})
    assert not is_there("promotes")
    assert not is_there("rollout.budget")
    assert is_there("rollout.ramp.harm_budget")
    assert sum(bool(set().union(*keys_in(advice))) for advice in ADVICE.values()) > 10
