"""The ensemble of teachers, and the altered questions that it labels for the student."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from catalogue import Row
from data import Vocabulary
from model import Llama
from ngrams import NgramClassifier, features
from training import Example, intent_logits


@dataclass(frozen=True)
class Ensemble:
    """Transformers and n-gram classifiers whose log-probabilities are averaged."""

    transformers: Sequence[Llama]
    linear: Sequence[NgramClassifier]
    vocabulary: Vocabulary
    device: torch.device
    linear_weight: float = 0.5
    sharpness: float = 1.0

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str]) -> Tensor:
        questions = [self.vocabulary.encode(text) for text in texts]
        neural = torch.stack(
            [
                torch.log_softmax(intent_logits(m, self.vocabulary, questions, self.device), -1)
                for m in self.transformers
            ]
        ).mean(0)
        bags = [features(text) for text in texts]
        linear = torch.stack(
            [
                torch.cat(
                    [
                        torch.log_softmax(m(bags[start : start + 1024]), -1)
                        for start in range(0, len(bags), 1024)
                    ]
                )
                for m in self.linear
            ]
        ).mean(0)
        mixed = (1 - self.linear_weight) * neural + self.linear_weight * linear
        return torch.softmax(self.sharpness * mixed, dim=-1)


def altered(words: list[str], other: list[str], rng: random.Random) -> list[str]:
    """Another question made of this one: words lost or moved, or its head joined to a tail."""
    kind = rng.random()
    if kind < 0.3:
        cut, tail = rng.randint(1, len(words)), rng.randint(0, len(other) - 1)
        return words[:cut] + other[tail:]
    lost = rng.uniform(0.05, 0.3)
    kept = [word for word in words if rng.random() >= lost] or list(words)
    if kind < 0.6 and len(kept) > 1:
        at = rng.randrange(1, len(kept))
        kept = kept[at:] + kept[:at]
    elif kind < 0.8:
        place = rng.randint(0, len(kept))
        kept = [*kept[:place], rng.choice(other), *kept[place:]]
    return kept


def labelled(
    rows: Sequence[Row], vocabulary: Vocabulary, soft: Tensor, hard_share: float
) -> list[Example]:
    """The questions as they are, with the label mixed into the soft probabilities."""
    labels = {name: number for number, name in enumerate(vocabulary.catalogue.intents)}
    hard = torch.eye(soft.shape[1])
    return [
        Example(
            tokens=tuple(vocabulary.encode(row.text)),
            label=labels[row.intent],
            soft=hard_share * hard[labels[row.intent]] + (1 - hard_share) * soft[number],
        )
        for number, row in enumerate(rows)
    ]


def altered_epochs(
    rows: Sequence[Row],
    ensemble: Ensemble,
    count: int,
    altered_share: float,
    hard_share: float,
    seed: int,
) -> list[list[Example]]:
    """One list of softly labelled examples per epoch; a share of the questions is altered."""
    rng = random.Random(seed)
    vocabulary = ensemble.vocabulary
    plain = ensemble.probabilities([row.text for row in rows])
    originals = labelled(rows, vocabulary, plain, hard_share)
    words = [row.text.split() for row in rows]
    epochs: list[list[Example]] = []
    for _ in range(count):
        chosen = [n for n in range(len(rows)) if rng.random() < altered_share]
        texts = [" ".join(altered(words[n], rng.choice(words), rng)) for n in chosen]
        soft = ensemble.probabilities(texts) if texts else plain[:0]
        replaced = {
            n: Example(tuple(vocabulary.encode(text)), int(target.argmax()), target)
            for n, text, target in zip(chosen, texts, soft, strict=True)
        }
        epochs.append([replaced.get(n, original) for n, original in enumerate(originals)])
    return epochs
