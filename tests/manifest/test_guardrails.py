"""`release.guardrails` in a manifest, and what a release is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli.watching import actions_of
from fairlead.domain.errors import InvalidInput, ManifestError
from fairlead.domain.guardrail import Guardrail, check_guardrails
from fairlead.manifest import Manifest, parse_manifest
from fairlead.monitoring.actions import ActionKind

HEAD = "service: bank\nrelease:\n  model: openai://h/v1?model=m\n  guardrails:\n"
DENY = "    - {name: deny, on: prompt, deny: [a]}\n"


def manifest(text: str) -> Manifest:
    return parse_manifest(text, Path("fairlead.yaml"))


def wrong(text: str) -> str:
    with pytest.raises(ManifestError) as refused:
        manifest(HEAD + text)
    return str(refused.value)


def test_what_is_declared_arrives() -> None:
    made = manifest(
        HEAD
        + """
    - name: deny
      on: prompt
      action: block
      deny: [Project Swordfish, {pattern: 'KD-\\d{6}'}]
    - {name: pii, on: answer, pii: [iban, email, iban]}
    - {name: injection, on: prompt, injection: true}
    - {name: long, on: prompt, max_characters: 20000}
    - name: form
      on: answer
      schema: {type: object, required: [intent]}
"""
    )
    declared = tuple(one.declared for one in made.release.guardrails)
    check_guardrails(declared)
    assert declared == (
        Guardrail(
            "deny", "prompt", "block", phrases=("Project Swordfish",), patterns=(r"KD-\d{6}",)
        ),
        Guardrail("pii", "answer", pii=("email", "iban")),
        Guardrail("injection", "prompt", injection=True),
        Guardrail("long", "prompt", max_characters=20_000),
        Guardrail("form", "answer", schema='{"required":["intent"],"type":"object"}'),
    )


def test_there_are_none_unless_they_are_declared() -> None:
    made = manifest("service: bank\nrelease: {model: 'openai://h/v1?model=m'}\n")
    assert made.release.guardrails == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    - {name: x, on: prompt, deni: [a]}", 'did you mean "deny"'),
        ("    - {name: x, on: promt, deny: [a]}", "prompt"),
        ("    - {name: x, on: prompt}", "exactly one of"),
        ("    - {name: x, on: prompt, deny: [a], injection: true}", "deny and injection"),
        ("    - {name: X Y, on: prompt, deny: [a]}", "lower-case letters"),
        (DENY + "    - {name: deny, on: answer, deny: [b]}", "earlier guardrail"),
        ("    - {name: x, on: answer, pii: [emial]}", 'did you mean "email"'),
        ("    - {name: x, on: answer, injection: true}", "in prompts only"),
        ("    - {name: x, on: prompt, injection: false}", "injection"),
        ("    - {name: x, on: prompt, schema: {}}", "for answers only"),
        ("    - {name: x, on: answer, schema: {type: objekt}}", "cannot be used"),
        ("    - {name: x, on: answer, schema: {uniqueItems: true}}", "uniqueItems"),
        ("    - {name: x, on: prompt, deny: []}", "deny"),
        ("    - {name: x, on: prompt, deny: ['  ']}", "only spaces"),
        ("    - {name: x, on: prompt, deny: [{pattern: '('}]}", "cannot be used"),
        ("    - {name: x, on: prompt, deny: [{pattern: '(a{99}){99}'}]}", "9801 times"),
        ("    - {name: x, on: prompt, deny: [{pattern: '(abcdefghij){150}'}]}", "1500 letters"),
        ("    - {name: x, on: prompt, deny: [{pattern: '\\w{150}'}]}", "at most 4 MiB"),
        ("    - {name: x, on: answer, schema: {pattern: '\\w{150}'}}", "at most 4 MiB"),
        ("    - {name: x, on: answer, schema: {$ref: 'https://json-schema.org/x'}}", "itself"),
        ("    - {name: x, on: prompt, max_characters: 0}", "max_characters"),
        ("    - {name: x, on: prompt, deny: [a], action: blok}", "action"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    message = wrong(text + "\n")
    assert said in message
    assert "guardrails[" in message


def test_patterns_that_are_too_large_together_are_told_with_the_one_that_is_too_much() -> None:
    """Each of them is small enough by itself."""
    large = "{pattern: '\\w{40}'}"
    each = "    - {name: %s, on: prompt, deny: [%s]}\n"
    text = "".join(each % (name, ", ".join([large] * 3)) for name in ("a", "b", "c"))
    message = wrong(text)
    assert "guardrails[2].deny" in message
    assert "16 MiB" in message
    with pytest.raises(InvalidInput, match=r"guardrails\[2\]\.deny: .*16 MiB"):
        check_guardrails([Guardrail(n, "prompt", patterns=(r"\w{40}",) * 3) for n in "abc"])


ACT = "monitoring: {actions: [{do: tighten_guardrail, monitors: [guardrails]%s}]}\n"


def test_an_action_can_tighten_what_flags() -> None:
    made = manifest(HEAD + DENY + ACT % ", guardrail: deny, severities: [ticket]")
    [policy] = actions_of(made)
    assert (policy.kind, policy.guardrail) == (ActionKind.TIGHTEN_GUARDRAIL, "deny")
    [policy] = actions_of(manifest(HEAD + DENY + ACT % ""))
    assert policy.guardrail == ""


@pytest.mark.parametrize(
    ("guardrails", "more", "said"),
    [
        (DENY, ", guardrail: denny", 'did you mean "deny"'),
        (DENY.replace("deny: [a]", "deny: [a], action: block"), "", "action: flag"),
        (
            DENY + "    - {name: hard, on: prompt, deny: [a], action: block}\n",
            ", guardrail: hard",
            "blocks already",
        ),
    ],
)
def test_an_action_that_could_tighten_nothing_is_a_mistake(
    guardrails: str, more: str, said: str
) -> None:
    assert said in wrong(guardrails + ACT % more)


def test_the_guardrail_is_for_that_action_only() -> None:
    action = "monitoring: {actions: [{do: scale, monitors: [slo], guardrail: deny}]}\n"
    assert 'only for "tighten_guardrail"' in wrong(DENY + action)
