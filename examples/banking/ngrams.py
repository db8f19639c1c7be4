"""A linear classifier over word and character n-grams: a cheap teacher for the distillation."""

from __future__ import annotations

import itertools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data import normalise

BUCKETS = 1 << 16
WORDS = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9]")


def features(text: str) -> list[int]:
    """Hashed unigrams, bigrams, skip-bigrams of words and 3- to 5-grams of characters."""
    words = WORDS.findall(normalise(text))
    grams = [f"w {word}" for word in words]
    grams += [f"b {a} {b}" for a, b in itertools.pairwise(words)]
    grams += [f"s {a} {b}" for a, b in zip(words, words[2:], strict=False)]
    joined = " " + " ".join(words) + " "
    for size in (3, 4, 5):
        grams += [f"c {joined[i : i + size]}" for i in range(len(joined) - size + 1)]
    return sorted({zlib.crc32(gram.encode()) % BUCKETS for gram in grams})


class NgramClassifier(nn.Module):
    """Inverse-frequency weighted n-grams, scaled to unit length, times one matrix."""

    def __init__(self, texts: Sequence[str], intents: int) -> None:
        super().__init__()
        counts = Counter(key for text in texts for key in features(text))
        total = len(texts)
        weights = torch.zeros(BUCKETS)
        for key, count in counts.items():
            weights[key] = math.log((1 + total) / (1 + count)) + 1 if count > 1 else 0.0
        self.register_buffer("rarity", weights)
        self.table = nn.EmbeddingBag(BUCKETS, intents, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.bias = nn.Parameter(torch.zeros(intents))

    rarity: Tensor

    def forward(self, keys: Sequence[Sequence[int]]) -> Tensor:
        flat = torch.tensor([key for bag in keys for key in bag], device=self.bias.device)
        sizes = torch.tensor([len(bag) for bag in keys], device=self.bias.device)
        starts = sizes.cumsum(0) - sizes
        weights = self.rarity[flat]
        owner = torch.repeat_interleave(torch.arange(len(keys), device=flat.device), sizes)
        squares = torch.zeros(len(keys), device=flat.device).index_add_(0, owner, weights**2)
        weights = weights * squares.clamp_min(1e-9).rsqrt()[owner]
        out: Tensor = self.table(flat, starts, per_sample_weights=weights) + self.bias
        return out


def train_ngrams(
    texts: Sequence[str], labels: Sequence[int], intents: int, seed: int, epochs: int = 12
) -> NgramClassifier:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = NgramClassifier(texts, intents)
    bags = [features(text) for text in texts]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    order = list(range(len(texts)))
    batch = 512
    for epoch in range(epochs):
        rng.shuffle(order)
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * (1 - epoch / epochs)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            scores = model([bags[i] for i in chosen])
            target = torch.tensor([labels[i] for i in chosen])
            loss = functional.cross_entropy(scores, target, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model


@torch.no_grad()
def cross_fitted(
    texts: Sequence[str], labels: Sequence[int], intents: int, folds: int, seed: int, epochs: int
) -> Tensor:
    """Probabilities for every text by a classifier that was trained without it."""
    fold = [number % folds for number in range(len(texts))]
    random.Random(seed).shuffle(fold)
    out = torch.zeros(len(texts), intents)
    for left_out in range(folds):
        inside = [i for i, f in enumerate(fold) if f != left_out]
        outside = [i for i, f in enumerate(fold) if f == left_out]
        with torch.enable_grad():
            model = train_ngrams(
                [texts[i] for i in inside], [labels[i] for i in inside], intents, left_out, epochs
            )
        out[outside] = torch.softmax(model([features(texts[i]) for i in outside]), dim=-1)
    return out
