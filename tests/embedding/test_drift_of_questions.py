"""Real questions, hashed n-grams and the drift monitor together."""

import csv
import json
import random

import pytest

np = pytest.importorskip("numpy")

from fairlead.embedding.hashed import HashedNgrams  # noqa: E402
from fairlead.embedding.word_sums import words  # noqa: E402
from fairlead.stats.drift.monitor import DriftMonitor  # noqa: E402
from fairlead.stats.drift.reference import fit, halves  # noqa: E402
from fairlead.stats.drift.topics import topics  # noqa: E402
from support.data_sets import BANKING77, DATA, needs_banking77  # noqa: E402

CLINC150 = DATA / "clinc150" / "data_full.json"


def questions(name: str, count: int) -> list[str]:
    with (BANKING77 / name).open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    return random.Random(7).sample(texts, count)


@needs_banking77
@pytest.mark.skipif(not CLINC150.is_file(), reason=f"the CLINC150 data set is not in {DATA}")
def test_questions_of_other_things_are_found_and_usual_ones_are_not() -> None:
    train, test = questions("train.csv", 4_000), questions("test.csv", 2_000)
    other = [text for text, _ in json.loads(CLINC150.read_text(encoding="utf-8"))["oos_test"]]
    embedder = HashedNgrams.fitted(train[at] for at in halves(len(train))[0])
    monitor = DriftMonitor(fit(embedder.embed(train)))
    assert monitor.update(embedder.embed(test[:1_200])) == []
    draw = random.Random(3)
    mixed = [draw.choice(other) if draw.random() < 0.25 else text for text in test[1_200:]]
    alarms = monitor.update(embedder.embed(mixed))
    assert alarms
    cause = alarms[0]["cause"]
    assert cause.channel == "novelty"
    assert alarms[0]["at"] < 1_200 + 500
    novel = [mixed[number - 1_200] for number in cause.novel[:10] if number >= 1_200]
    assert sum(text in other for text in novel) >= 0.7 * len(novel) > 0
    # and their groups can be shown
    assert sum(len(topic.rows) for topic in topics(embedder.embed(novel), 2)) == len(novel)
    assert all(words(text) for text in novel)
