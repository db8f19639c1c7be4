"""BBQ and CrowS-Pairs: the published scores again, from the published answers."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.stats.monitors.stereotypes import (
    ALL,
    BbqItem,
    CrowsPair,
    bbq_item,
    bbq_scores,
    crows_scores,
)
from support.data_sets import DATA

BBQ, CROWS = DATA / "bbq", DATA / "crows-pairs" / "crows_pairs_anonymized.csv"
UNIFIED_QA = json.loads(Path(__file__).with_name("unifiedqa.json").read_text(encoding="utf-8"))
needs_bbq = pytest.mark.skipif(not BBQ.is_dir(), reason=f"BBQ is not in {DATA}")
needs_crows = pytest.mark.skipif(not CROWS.exists(), reason=f"CrowS-Pairs is not in {DATA}")

LINE: dict[str, Any] = {
    "question_polarity": "neg",
    "context_condition": "ambig",
    "category": "Age",
    "answer_info": {
        "ans0": ["grandfather", "old"],
        "ans1": ["grandson", "nonOld"],
        "ans2": ["Unknown", "unknown"],
    },
    "additional_metadata": {"stereotyped_groups": ["old"]},
    "label": 2,
}


def items(category: str) -> list[BbqItem]:
    lines = (BBQ / f"{category}.jsonl").read_text(encoding="utf-8").splitlines()
    return [bbq_item(json.loads(line)) for line in lines]


@needs_bbq
@pytest.mark.parametrize(
    ("category", "published"),
    [
        ("Age", (54.7, 93.5, 29.8, 1.2)),
        ("Nationality", (66.0, 93.7, 6.0, 1.2)),
        ("Religion", (65.0, 88.0, 14.3, 0.2)),
    ],
)
def test_unifiedqas_published_scores_come_out(category: str, published: tuple[float, ...]) -> None:
    """Figures 3 and 5 of Parrish et al. 2022, UnifiedQA (RACE), from its own answers."""
    answers = [int(each) for each in UNIFIED_QA[category]]
    scores = bbq_scores(zip(items(category), answers, strict=True))[category]
    found = scores[1:]
    assert tuple(round(100 * each, 1) for each in found if each is not None) == published


@needs_bbq
@pytest.mark.parametrize("category", ["Age", "Nationality", "Religion"])
def test_every_real_item_names_its_biased_answer(category: str) -> None:
    """And always biased, never biased and always right come out as they must."""
    real = items(category)
    assert all(item.biased is not None for item in real)
    biased = bbq_scores((item, item.biased or 0) for item in real)[ALL]
    assert (biased.bias_ambiguous, biased.bias_disambiguated) == (1.0, 1.0)
    assert biased.accuracy_ambiguous == 0.0
    fair = bbq_scores((item, item.unknown) for item in real)[ALL]
    assert (fair.bias_ambiguous, fair.bias_disambiguated) == (0.0, None)
    right = bbq_scores((item, item.correct) for item in real)[ALL]
    assert (right.accuracy_ambiguous, right.accuracy_disambiguated) == (1.0, 1.0)
    assert right.bias_disambiguated == pytest.approx(0.0, abs=0.01)


def test_the_biased_answer_follows_the_polarity_or_the_authors_metadata() -> None:
    assert bbq_item(LINE).biased == 0
    assert bbq_item({**LINE, "question_polarity": "nonneg"}).biased == 1
    assert bbq_item(LINE, target=1).biased == 1
    both = {**LINE, "additional_metadata": {"stereotyped_groups": ["old", "nonOld"]}}
    assert bbq_item(both).biased is None
    assert bbq_scores([(bbq_item(both), 0)]) == {}


@pytest.mark.parametrize(
    "damaged",
    [
        {"answer_info": {}},
        {"answer_info": None},
        {"context_condition": "clear"},
        {"question_polarity": None},
        {"label": 3},
        {"label": "x"},
        {"additional_metadata": []},
    ],
)
def test_what_is_no_line_of_bbq_is_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a line of BBQ"):
        bbq_item({**LINE, **damaged})


def test_an_answer_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="0, 1 or 2"):
        bbq_scores([(bbq_item(LINE), 3)])


@needs_crows
def test_crows_pairs_of_the_real_set() -> None:
    """Models that prefer always, never, and by the sentence's length."""
    with CROWS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    always = crows_scores(
        CrowsPair(row["bias_type"], row["stereo_antistereo"], -1.0, -2.0)  # type: ignore[arg-type]
        for row in rows
    )
    assert always[ALL] == (1508, 1.0, 1.0, 1.0, 0)
    assert always["race-color"].n == 516
    assert len(always) == 10
    shorter = crows_scores(
        CrowsPair(
            row["bias_type"],
            row["stereo_antistereo"],  # type: ignore[arg-type]
            -float(len(row["sent_more"])),
            -float(len(row["sent_less"])),
        )
        for row in rows
    )[ALL]
    assert 0.2 < shorter.score < 0.8
    assert 0 < shorter.neutral < 1508


def test_crows_scores_by_direction() -> None:
    pairs = [
        CrowsPair("age", "stereo", -1.0, -2.0),
        CrowsPair("age", "stereo", -2.0, -1.0),
        CrowsPair("age", "antistereo", -1.0, -2.0),
        CrowsPair("gender", "stereo", -1.0, -1.0),
    ]
    scores = crows_scores(pairs)
    assert scores["age"] == (3, pytest.approx(2 / 3), 0.5, 1.0, 0)
    assert scores["gender"] == (1, 0.0, 0.0, None, 1)
    assert scores[ALL].score == 0.5
    assert crows_scores([]) == {}


@pytest.mark.parametrize(
    ("direction", "more"), [("stereo", float("nan")), ("stereo", float("-inf")), ("other", -1.0)]
)
def test_a_pair_that_is_none_is_refused(direction: Any, more: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        crows_scores([CrowsPair("age", direction, more, -1.0)])
