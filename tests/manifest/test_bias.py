"""The manifest's `bias`, and what control is told by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli.benchmark_files import loaded
from fairlead.cli.fairness import bias_of, with_scores
from fairlead.domain.errors import InvalidInput, ManifestError
from fairlead.domain.release import sha256_digest
from fairlead.evaluation.cases import Suite
from fairlead.manifest import bias, parse_manifest
from fairlead.probing.bias_model import BiasSpec, Segment, Template
from fairlead.probing.bias_pairs import plan_of
from fairlead.probing.bias_sets import BUILTIN

GOOD = "service: x\nrelease:\n  model: openai://h/v1?model=m\n"
OWN = """bias:
  attributes:
    name:
      a: [Ann, Bea]
      b: [Cid, Dan]
"""


def spec_of(text: str, folder: Path) -> BiasSpec:
    spec = bias_of(parse_manifest(GOOD + text, folder / "fairlead.yaml"))
    assert spec is not None
    return spec


def test_no_more_than_its_name_asks_all_built_in_pairs(tmp_path: Path) -> None:
    spec = spec_of("bias: {}\n", tmp_path)
    assert spec == BiasSpec(builtin=tuple(BUILTIN))
    assert len(plan_of(spec).contrasts) == 6
    assert bias_of(parse_manifest(GOOD, tmp_path / "fairlead.yaml")) is None
    assert tuple(BUILTIN) == bias.BUILTIN, "what the manifest knows is what there is"


def test_own_attributes_ask_these_alone_unless_built_in_ones_are_named(tmp_path: Path) -> None:
    templates = (
        '  templates: ["I am {name}. {when}?"]\n  known:\n    - {text: "{name}?", expected: "7"}\n'
    )
    details = "  details:\n    when: [Now, Later]\n"
    spec = spec_of(OWN + templates + details, tmp_path)
    assert spec.templates == (Template("I am {name}. {when}?"), Template("{name}?", "7"))
    assert (spec.builtin, plan_of(spec).pairs) == ((), 6)
    assert spec_of(OWN + templates + details + "  builtin: [age]\n", tmp_path).builtin == ("age",)


def test_templates_may_stand_in_a_file_one_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# mine\nI am {name}.\n\n  Hello, {name} here!  \n")
    spec = spec_of(OWN + "  templates_file: templates.txt\n", tmp_path)
    assert [template.text for template in spec.templates] == ["I am {name}.", "Hello, {name} here!"]
    path.write_bytes(b"\xff\xfe{name}")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        spec_of(OWN + "  templates_file: templates.txt\n", tmp_path)
    path.write_text("I am {nmae}\n")
    with pytest.raises(InvalidInput, match=r"nmae. is no attribute"):
        spec_of(OWN + "  templates_file: templates.txt\n", tmp_path)


def test_segments_alone_ask_no_pairs(tmp_path: Path) -> None:
    text = "bias:\n  pairs: 0\n  segments:\n    - {name: eu, keys: [eu-app, eu-web]}\n"
    spec = spec_of(text, tmp_path)
    assert (spec.pairs, spec.segments) == (0, (Segment("eu", ("eu-app", "eu-web")),))


MISTAKES = {
    "  pairs: 0\n": (
        "5: bias.pairs is 0 and there are no segments and no scores: nothing is compared"
    ),
    "  scores: {items: 50}\n": "5: bias.scores need `bbq`, `crows` or both",
    "  scores: {bbq: x, usd_per_day: 1}\n": "5: bias.scores.usd_per_day needs release.price",
    "  attributes: {name: {a: [x], b: [y]}}\n": (
        "5: bias.attributes need `templates`, `known` or `templates_file`"
    ),
    '  templates: ["{name}"]\n': "5: bias.templates needs `attributes`, whose places it has",
    "  usd_per_day: 1\n": "5: bias.usd_per_day needs release.price",
    "  builtin: []\n": "5: bias.builtin names none, and there are no attributes",
    "  builtin: [age, age]\n": "5: bias.builtin names one twice",
    "  pair: 3\n": '5: unknown key "pair" in bias (did you mean "pairs"?)',
    "  segments: [{name: a, keys: [k]}, {name: a, keys: [l]}]\n": (
        '5: bias.segments[1].name "a" is the name of an earlier segment'
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_says_where_and_what(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    with pytest.raises(ManifestError) as caught:
        parse_manifest(GOOD + "bias:\n" + text, path)
    assert caught.value.message == f"{path}:{MISTAKES[text]}"


def test_pairs_are_not_asked_of_embeddings(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").touch()
    text = "service: x\nrelease:\n  model: b.gguf\n  engine: {settings: {embeddings: true}}\n"
    with pytest.raises(ManifestError, match="serves embeddings"):
        parse_manifest(text + "bias: {}\n", tmp_path / "fairlead.yaml")


def test_scores_on_a_schedule_keep_items_of_the_users_file_and_say_when_it_is_not_there(
    tmp_path: Path,
) -> None:
    text = "bias:\n  pairs: 0\n  scores: {crows: crows.csv, bbq: bbq, items: 20, per_run: 5}\n"
    manifest = parse_manifest(GOOD + text, tmp_path / "fairlead.yaml")
    (tmp_path / "crows.csv").write_text(
        "id,sent_more,sent_less,stereo_antistereo,bias_type\n"
        + "".join(f"{n},old {n},young {n},stereo,age\n" for n in range(30))
    )
    assert manifest.bias is not None
    assert manifest.bias.scores is not None
    found = loaded(manifest.bias.scores)
    assert [(each.benchmark, each.suite is None) for each in found] == [
        ("bbq", True), ("crows", False),
    ]  # fmt: skip
    assert "bbq: no folder with BBQ's files" in found[0].missing
    assert "ship` the manifest again" in found[0].missing
    kept: list[bytes] = []

    def put(data: bytes) -> str:
        kept.append(data)
        return sha256_digest(data)

    bias = bias_of(manifest)
    assert bias is not None
    scores = with_scores(bias, manifest, found, put).scores
    assert scores is not None
    assert (scores.per_run, scores.interval_s, scores.worse_by) == (5, 86_400.0, 0.05)
    assert [each.missing == "" for each in scores.benchmarks] == [False, True]
    assert scores.benchmarks[1].suite == sha256_digest(kept[0])
    assert len(Suite.from_bytes(kept[0]).cases) == 20
    (tmp_path / "crows.csv").write_text("no,pairs\n1,2\n")
    with pytest.raises(InvalidInput, match="none of CrowS-Pairs"):
        loaded(manifest.bias.scores)
