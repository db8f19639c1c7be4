"""The banking example is what its model cards and its files say."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairlead.manifest import load_manifest
from fairlead.registry.model_files import accept_file
from support.data_sets import BANKING77, needs_banking77

ROOT = Path(__file__).parents[2]
BANKING = ROOT / "examples" / "banking"
BYTES_MAX = 8_000_000
CARD = re.compile(r"^\| ([A-D]) \(`(.\.gguf)`\) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % ", re.M)
PRINTED = re.compile(r"accuracy ([\d.]+), covered ([\d.]+), uncovered ([\d.]+)")


def intents() -> dict[str, str]:
    """Intent -> team."""
    known: dict[str, str] = json.loads((BANKING / "intents.json").read_text())["intents"]
    return known


def uncovered() -> set[str]:
    """Teams that the suite does not cover."""
    return set(json.loads((BANKING / "intents.json").read_text())["uncovered_by_suite"])


def rows(name: str) -> list[dict[str, str]]:
    with (BANKING / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cards() -> dict[str, tuple[float, ...]]:
    """Accuracy on all, covered and uncovered questions by model file, as the cards say."""
    text = (BANKING / "models" / "README.md").read_text(encoding="utf-8")
    return {file: tuple(map(float, numbers)) for _, file, *numbers in CARD.findall(text)}


def test_the_questions_are_many_natural_labels_over_all_intents() -> None:
    asked = Counter(row["category"] for row in rows("suite.csv") + rows("traffic.csv"))
    assert asked.total() >= 300
    assert set(asked) == set(intents())
    texts = [row["text"] for row in rows("suite.csv") + rows("traffic.csv")]
    assert len(set(texts)) == len(texts)


def test_the_suite_leaves_out_what_it_says_it_leaves_out() -> None:
    teams = {intents()[row["category"]] for row in rows("suite.csv")}
    assert teams == set(intents().values()) - uncovered()
    assert uncovered() <= {intents()[row["category"]] for row in rows("traffic.csv")}


@pytest.mark.parametrize("release", "abcd")
def test_each_release_loads_and_its_model_is_small_and_acceptable(release: str) -> None:
    manifest = load_manifest(BANKING / f"release-{release}.yaml")
    assert manifest.service == "banking"
    model = BANKING / "models" / f"{release}.gguf"
    assert model.stat().st_size <= BYTES_MAX
    with model.open("rb") as file:
        facts = accept_file(file.fileno(), name=model.name, label=str(model))
    assert facts is not None
    assert facts.architecture == "llama"


@needs_banking77
def test_no_question_is_taken_from_the_data_set() -> None:
    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9 ]", "", text.lower()).strip()

    theirs = set()
    for name in ("train.csv", "test.csv"):
        with (BANKING77 / name).open(newline="", encoding="utf-8") as file:
            theirs |= {plain(row["text"]) for row in csv.DictReader(file)}
    ours = rows("suite.csv") + rows("traffic.csv")
    assert [row["text"] for row in ours if plain(row["text"]) in theirs] == []


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_banking77
def test_the_cards_say_what_is_measured() -> None:
    """Releases a, b and c on the 3,080 test questions, to half a point (kernels differ by CPU)."""
    said = cards()
    assert sorted(said) == ["a.gguf", "b.gguf", "c.gguf", "d.gguf"]
    models = [str(BANKING / "models" / f"{name}.gguf") for name in "abc"]
    done = subprocess.run(
        [
            sys.executable,
            str(BANKING / "evaluate.py"),
            *models,
            "--data",
            str(BANKING77 / "test.csv"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = [tuple(100 * float(n) for n in found) for found in PRINTED.findall(done.stdout)]
    for name, numbers in zip("abc", measured, strict=True):
        assert numbers == pytest.approx(said[f"{name}.gguf"], abs=0.5), name
