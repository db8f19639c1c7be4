"""What can be declared as a guardrail, and what it does to a release's digest."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.domain.guardrail import (
    GUARDRAILS_MAX,
    PATTERNS_MAX,
    PHRASES_MAX,
    SCHEMA_BYTES_MAX,
    Guardrail,
    check_guardrails,
    tightened,
)
from fairlead.domain.release import Engine, Release, RemoteModel

PLAIN = Release(RemoteModel("https://h/v1", "m"), Engine("remote", {"slots": 4}))
DENY = Guardrail("deny", "prompt", phrases=("a",))
OUTSIDE = {"$ref": "https://json-schema.org/draft/2020-12/schema"}


def test_a_release_without_guardrails_is_the_one_that_it_was() -> None:
    """The bytes of which its digest is made, as they were before there were any."""
    assert PLAIN.canonical() == (
        b'{"engine":{"kind":"remote","settings":{"slots":4}},'
        b'"model":{"api_key_env":null,"api_key_file":null,"base_url":"https://h/v1","model":"m",'
        b'"type":"remote"},'
        b'"prompt":{"system":null,"user":null},"sampling":{},"schema":1}'
    )


def test_every_part_of_a_guardrail_is_part_of_the_digest() -> None:
    """So that going back restores it; and it is read back as it was."""
    changes: list[dict[str, Any]] = [
        {}, {"name": "other"}, {"on": "answer"}, {"action": "block"}, {"phrases": ("b",)},
        {"patterns": ("c",)},
    ]  # fmt: skip
    releases = [PLAIN]
    for change in changes:
        guardrail = msgspec.structs.replace(DENY, **change)
        releases.append(msgspec.structs.replace(PLAIN, guardrails=(guardrail,)))
    assert len({release.canonical() for release in releases}) == len(releases)
    assert [Release.from_canonical(r.canonical()) for r in releases] == releases


def test_what_is_left_at_its_default_is_left_out() -> None:
    """So that kinds that come later change no digest."""
    made = msgspec.structs.replace(PLAIN, guardrails=(DENY,))
    assert b'"guardrails":[{"name":"deny","on":"prompt","phrases":["a"]}]' in made.canonical()


@pytest.mark.parametrize(
    "good",
    [
        DENY,
        Guardrail("x", "answer", "block", patterns=(r"\bAB-\d{4,8}\b",)),
        Guardrail("x", "answer", pii=("email", "iban")),
        Guardrail("x", "prompt", injection=True),
        Guardrail("x", "prompt", max_characters=100),
        Guardrail("x", "answer", schema='{"type":"object"}'),
    ],
)
def test_each_kind_can_be_declared(good: Guardrail) -> None:
    check_guardrails([good])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Guardrail("", "prompt", phrases=("a",)), "name"),
        (Guardrail("A B", "prompt", phrases=("a",)), "name"),
        (Guardrail("a,b", "prompt", phrases=("a",)), "name"),
        (Guardrail("x", "prompt"), "exactly one"),
        (Guardrail("x", "prompt", phrases=("a",), pii=("email",)), "deny and pii"),
        (Guardrail("x", "answer", injection=True), "in prompts only"),
        (Guardrail("x", "prompt", schema="{}"), "for answers only"),
        (Guardrail("x", "prompt", phrases=(" ",)), "a phrase has"),
        (Guardrail("x", "prompt", phrases=("a" * 201,)), "a phrase has"),
        (Guardrail("x", "prompt", phrases=("a",) * (PHRASES_MAX + 1)), "at most"),
        (Guardrail("x", "prompt", patterns=("a",) * (PATTERNS_MAX + 1)), "at most"),
        (Guardrail("x", "prompt", patterns=("(",)), "cannot be used"),
        (Guardrail("x", "prompt", patterns=("(?=a)b",)), "cannot be used"),
        (Guardrail("x", "prompt", patterns=(r"(a)\1",)), "cannot be used"),
        (Guardrail("x", "prompt", patterns=("((a{20}){20}){20}",)), "8000 times"),
        (Guardrail("x", "prompt", patterns=("a{2,}b{500}",)), "1000 times"),
        (Guardrail("x", "prompt", patterns=("a" * 201,)), "a pattern has"),
        (Guardrail("x", "prompt", patterns=("(abcdefghij){150}",)), "1500 letters and classes"),
        (Guardrail("x", "prompt", patterns=(r"\w{150}",)), "at most 4 MiB"),
        (Guardrail("x", "answer", schema=json.dumps({"pattern": r"\w{150}"})), "at most 4 MiB"),
        (Guardrail("x", "answer", schema=json.dumps({"items": OUTSIDE})), "this schema itself"),
        (Guardrail("x", "prompt", max_characters=-1), "max_characters"),
        (Guardrail("x", "prompt", max_characters=10**9), "max_characters"),
        (Guardrail("x", "answer", schema="[]"), "schema"),
        (Guardrail("x", "answer", schema="{"), "schema"),
        (Guardrail("x", "answer", schema='{"type":"nothing"}'), "schema"),
        (Guardrail("x", "answer", schema='{"items":{"uniqueItems":true}}'), "uniqueItems"),
        (Guardrail("x", "answer", schema=json.dumps({"pattern": "[ab]{300}"})), "repeats"),
        (
            Guardrail("x", "answer", schema=json.dumps({"anyOf": [{"pattern": "a"}] * 11})),
            "11 patterns",
        ),
        (Guardrail("x", "answer", schema=json.dumps({"title": "a" * SCHEMA_BYTES_MAX})), "at most"),
        (Guardrail("x", "prompt", pii=("address",)), "address"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_with_its_place(bad: Guardrail, why: str) -> None:
    with pytest.raises(InvalidInput, match="guardrails\\[1\\]") as refused:
        check_guardrails([DENY, bad])
    assert why in refused.value.message


def test_names_differ_and_there_are_not_too_many() -> None:
    with pytest.raises(InvalidInput, match="earlier guardrail"):
        check_guardrails([DENY, DENY])
    many = [msgspec.structs.replace(DENY, name=f"n{i}") for i in range(GUARDRAILS_MAX + 1)]
    with pytest.raises(InvalidInput, match="at most"):
        check_guardrails(many)


def test_tightened_ones_block_and_the_others_stay() -> None:
    other = msgspec.structs.replace(DENY, name="other")
    assert [g.action for g in tightened((DENY, other), ["other", "gone"])] == ["flag", "block"]
