"""The training loop: answer loss, next-token loss, augmentation, and a moving average."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from data import ANSWER, BOS, EOS, MASK, Vocabulary
from model import Llama, Shape

IGNORE = -1


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. The shares and rates are per example or per token."""

    width: int = 192
    layers: int = 2
    heads: int = 6
    feed_forward: int = 512
    epochs: int = 16
    batch: int = 64
    rate: float = 2.5e-3
    decay: float = 0.05
    dropout: float = 0.15
    mask: float = 0.12
    drop_token: float = 0.04
    swap: float = 0.3
    smoothing: float = 0.05
    language_weight: float = 0.3
    language_share: float = 0.34
    tail_every: int = 4
    average: float = 0.998
    freeze_embeddings: bool = False


@dataclass(frozen=True)
class Example:
    """A question's token ids, its label, and a probability for each intent (or ``None``)."""

    tokens: tuple[int, ...]
    label: int
    soft: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    inputs: Tensor
    next_tokens: Tensor
    answer_at: Tensor
    targets: Tensor


def augment(tokens: Sequence[int], recipe: Recipe, rng: random.Random) -> list[int]:
    """Drop a few tokens and swap one pair of neighbours, as hurried typing does."""
    kept = [t for t in tokens if rng.random() >= recipe.drop_token]
    if len(kept) < 2:
        return list(tokens)
    if rng.random() < recipe.swap:
        at = rng.randrange(len(kept) - 1)
        kept[at], kept[at + 1] = kept[at + 1], kept[at]
    return kept


class Collator:
    """Turns examples into right-padded tensors."""

    def __init__(self, vocabulary: Vocabulary, recipe: Recipe, device: torch.device) -> None:
        self.vocabulary = vocabulary
        self.recipe = recipe
        self.device = device
        self.bos, self.eos, self.answer, self.mask = (
            vocabulary.control(token) for token in (BOS, EOS, ANSWER, MASK)
        )
        names = vocabulary.catalogue.intents
        self.tails = [
            [vocabulary.intent_ids[i], vocabulary.middle, vocabulary.team_id(name), self.eos]
            for i, name in enumerate(names)
        ]

    def soft_target(self, example: Example) -> Tensor:
        count = len(self.tails)
        hard = torch.full((count,), self.recipe.smoothing / count)
        hard[example.label] += 1 - self.recipe.smoothing
        return hard if example.soft is None else example.soft

    def __call__(self, examples: Sequence[Example], rng: random.Random, tail: bool) -> Batch:
        recipe = self.recipe
        inputs, following, at = [], [], []
        for example in examples:
            question = augment(example.tokens, recipe, rng)
            seen = [self.mask if rng.random() < recipe.mask else t for t in question]
            answer = [self.answer, self.vocabulary.open]
            rest = self.tails[example.label] if tail else []
            inputs.append([self.bos, *seen, *answer, *rest[:-1]])
            following.append([*question, *answer, IGNORE, *rest[1:]])
            at.append(len(question) + 2)
        length = max(len(row) for row in inputs)
        pad = [[self.eos] * (length - len(row)) for row in inputs]
        none = [[IGNORE] * (length - len(row)) for row in following]
        device = self.device
        return Batch(
            torch.tensor([a + b for a, b in zip(inputs, pad, strict=True)], device=device),
            torch.tensor([a + b for a, b in zip(following, none, strict=True)], device=device),
            torch.tensor(at, device=device),
            torch.stack([self.soft_target(e) for e in examples]).to(device),
        )


def schedule(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Batches of examples of like length, in random order."""
    order = list(range(len(examples)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), size * 20):
        pool = sorted(order[start : start + size * 20], key=lambda i: len(examples[i].tokens))
        batches += [pool[k : k + size] for k in range(0, len(pool), size)]
    rng.shuffle(batches)
    yield from batches


def batch_loss(model: Llama, batch: Batch, intent_ids: Tensor, recipe: Recipe) -> Tensor:
    hidden = model(batch.inputs)
    rows = torch.arange(batch.inputs.shape[0], device=hidden.device)
    scores = model.logits(hidden[rows, batch.answer_at])
    logs = functional.log_softmax(scores, dim=-1)[:, intent_ids]
    loss = -(batch.targets * logs).sum(dim=-1).mean()
    known = batch.next_tokens != IGNORE
    # Every position of the fixed part of the answer counts, and a share of the question's.
    late = torch.arange(known.shape[1], device=hidden.device) >= batch.answer_at[:, None] - 2
    chosen = known & (
        late | (torch.rand(known.shape, device=hidden.device) < recipe.language_share)
    )
    language = functional.cross_entropy(model.logits(hidden[chosen]), batch.next_tokens[chosen])
    out: Tensor = loss + recipe.language_weight * language
    return out


class Average:
    """Exponential moving average of the weights."""

    def __init__(self, model: Llama, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model: Llama) -> None:
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.weights, list(model.parameters()), 1 - keep)

    @torch.no_grad()
    def copy_to(self, model: Llama) -> None:
        for parameter, weight in zip(model.parameters(), self.weights, strict=True):
            parameter.copy_(weight)


def optimiser_for(model: Llama, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    gains = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


def new_model(recipe: Recipe, vocabulary: Vocabulary, device: torch.device) -> Llama:
    shape = Shape(
        vocabulary=len(vocabulary.tokens),
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        feed_forward=recipe.feed_forward,
    )
    return Llama(shape, recipe.dropout).to(device)


def train(
    name: str,
    recipe: Recipe,
    vocabulary: Vocabulary,
    epochs: Sequence[Sequence[Example]],
    seed: int,
    device: torch.device,
    start: Llama | None = None,
) -> Llama:
    """Train on one list of examples per epoch; returns the averaged model."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = new_model(recipe, vocabulary, device)
    if start is not None:
        model.load_state_dict(start.state_dict())
    collate = Collator(vocabulary, recipe, device)
    intent_ids = torch.tensor(vocabulary.intent_ids, device=device)
    optimiser = optimiser_for(model, recipe)
    average = Average(model, recipe.average)
    total = sum(math.ceil(len(examples) / recipe.batch) for examples in epochs)
    warmup = min(150, max(1, total // 10))
    step, began = 0, time.monotonic()
    for number, examples in enumerate(epochs, start=1):
        model.train()
        losses: list[float] = []
        for chosen in schedule(examples, recipe.batch, rng):
            share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * min(1.0, (step + 1) / warmup) * share
            batch = collate([examples[i] for i in chosen], rng, step % recipe.tail_every == 0)
            loss = batch_loss(model, batch, intent_ids, recipe)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            average.update(model)
            losses.append(loss.item())
            step += 1
        spent = time.monotonic() - began
        mean = sum(losses) / len(losses)
        print(f"{name}: epoch {number}/{len(epochs)} loss {mean:.3f} {spent:.0f} s", flush=True)
        sys.stdout.flush()
    average.copy_to(model)
    model.eval()
    return model


@torch.no_grad()
def intent_logits(
    model: Llama, vocabulary: Vocabulary, questions: Sequence[Sequence[int]], device: torch.device
) -> Tensor:
    """Scores of the intents at the place where the model would name one."""
    bos, answer = vocabulary.control(BOS), vocabulary.control(ANSWER)
    ids = torch.tensor(vocabulary.intent_ids, device=device)
    out = torch.empty(len(questions), len(ids))
    order = sorted(range(len(questions)), key=lambda i: len(questions[i]))
    model.eval()
    for start in range(0, len(order), 128):
        chosen = order[start : start + 128]
        rows = [[bos, *questions[i], answer, vocabulary.open] for i in chosen]
        length = max(len(row) for row in rows)
        inputs = torch.tensor([row + [answer] * (length - len(row)) for row in rows]).to(device)
        at = torch.tensor([len(row) - 1 for row in rows], device=device)
        hidden = model(inputs)[torch.arange(len(rows), device=device), at]
        out[chosen] = functional.linear(hidden, model.lm_head.weight[ids]).float().cpu()
    return out
