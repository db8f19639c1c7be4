"""What docs/guardrails.md shows can be shipped, and its figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from fairlead.domain import guarding
from fairlead.domain.capture import REDACTIONS
from fairlead.domain.guarding import JSON_CHARS_MAX, JSON_STEPS_MAX, KEPT_CHARS, SLICE_CHARS
from fairlead.domain.guardrail import (
    GUARDRAILS_MAX,
    PATTERNS_BYTES_MAX,
    PATTERNS_MAX,
    PHRASES_MAX,
    REPEATS_MAX,
    check_guardrails,
)
from fairlead.domain.json_fitting import PAUSE_STEPS
from fairlead.domain.json_schemas import REFERENCE_STEPS
from fairlead.domain.pattern_size import BYTES_MAX, CLASS_BYTES, PLACES_MAX
from fairlead.gateway.guardrails.said import ANSWER_PARTS_MAX, ANSWER_VALUES_MAX, VALUES_MAX
from fairlead.gateway.guardrails.turns import BUDGET_S
from fairlead.gateway.limits import PLAIN_BUFFER_BYTES
from fairlead.manifest import parse_manifest
from fairlead.manifest.guardrails import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "guardrails.md"


def test_the_example_is_a_manifest_with_each_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    [action] = re.findall(r"^      monitoring:\n(?:        .*\n)+", text, re.MULTILINE)
    more = "\n".join(line[6:] for line in action.splitlines())
    made = parse_manifest(f"{example}\n{more}\n", Path("fairlead.yaml"))
    declared = [one.declared for one in made.release.guardrails]
    check_guardrails(declared)
    assert made.monitoring.actions[0].do == "tighten_guardrail"
    given = {key for one in yaml.safe_load(example)["release"]["guardrails"] for key in one}
    assert set(KINDS) <= given | {"on"}


def test_its_figures_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for said in (
        f"up to {GUARDRAILS_MAX} guardrails",
        f"up to {PHRASES_MAX} phrases",
        f"up to {PATTERNS_MAX} patterns",
        f"at most {REPEATS_MAX}",
        f"pieces of {SLICE_CHARS:,} characters",
        f"at most {JSON_STEPS_MAX:,} steps",
        f"some {PAUSE_STEPS:,} steps at a time",
        f"{REFERENCE_STEPS} for a `$ref`",
        f"at most {PLACES_MAX:,} letters and classes",
        f"at most {BYTES_MAX // 1024**2} MiB, all patterns",
        f"at most {PATTERNS_BYTES_MAX // 1024**2} MiB",
        f"{CLASS_BYTES['w'] // 1024} KiB each time",
        f"({guarding.WIDE_SLICE_CHARS:,} where",
        f"more than {guarding._LONG * guarding._PLACES:,} places",
        f"more than {guarding._LONG * guarding._PHRASE_CHARS:,} letters",
        f"more than {ANSWER_PARTS_MAX:,} choices",
        f"{ANSWER_VALUES_MAX:,} values",
        f"{BUDGET_S * 1000:g} milliseconds",
        f"last {KEPT_CHARS} characters",
        f"{JSON_CHARS_MAX:,} characters",
        *(f"`{kind}`" for kind in (*KINDS[:2], *KINDS[3:], *REDACTIONS)),
    ):
        assert said in text, said
    assert PLAIN_BUFFER_BYTES == 1 << 20
    assert VALUES_MAX == 1_000_000
