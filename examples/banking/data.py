"""Questions, answer vocabulary and tokenizer of the banking example.

A sequence is

    <|begin|> question <|answer|> {"intent": " INTENT ", "team": " TEAM"} <|end|>

where everything after ``<|answer|>`` is the text the model emits. Each of those pieces is one
vocabulary entry, so an answer takes five decoding steps whatever the intent's name is.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cached_property

import tokenizers

from catalogue import CLOSE, MIDDLE, OPEN, Catalogue, Row

BOS, EOS, ANSWER, MASK = "<|begin|>", "<|end|>", "<|answer|>", "<|mask|>"
CONTROL = (BOS, EOS, ANSWER, MASK)
MAX_QUESTION_CHARACTERS = 480
MAX_QUESTION_TOKENS = 120


def split_rows(rows: list[Row], held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Hold out the same share of every intent, for tuning without looking at the test file."""
    by_intent: dict[str, list[Row]] = {}
    for row in rows:
        by_intent.setdefault(row.intent, []).append(row)
    rng = random.Random(seed)
    train: list[Row] = []
    valid: list[Row] = []
    for intent in sorted(by_intent):
        group = list(by_intent[intent])
        rng.shuffle(group)
        cut = round(len(group) * held_out)
        valid.extend(group[:cut])
        train.extend(group[cut:])
    return train, valid


def normalise(text: str) -> str:
    """What the GGUF's chat template does to a question before it is cut into tokens.

    Only ASCII letters are lower-cased, because that is what llama.cpp's ``lower`` does. Splitting
    ``<|`` keeps a customer's text from spelling a control token.
    """
    lowered = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text.strip())
    return lowered[:MAX_QUESTION_CHARACTERS].replace("<|", "< |")


def byte_symbols(text: str) -> str:
    """Spell a text in the byte alphabet of byte-level BPE (a space becomes ``Ġ``)."""
    pieces = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in pieces.pre_tokenize_str(text))


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE vocabulary followed by the answer pieces.

    The answer pieces are ordinary entries that no merge leads to, so a customer's text can never
    be cut into them, while llama.cpp still prints them.
    """

    merges: list[tuple[str, str]]
    tokens: list[str]
    catalogue: Catalogue

    @cached_property
    def index(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def control(self, token: str) -> int:
        return self.index[token]

    def piece(self, text: str) -> int:
        return self.index[byte_symbols(text)]

    @cached_property
    def open(self) -> int:
        return self.piece(OPEN)

    @cached_property
    def middle(self) -> int:
        return self.piece(MIDDLE)

    @cached_property
    def intent_ids(self) -> list[int]:
        return [self.piece(intent) for intent in self.catalogue.intents]

    def team_id(self, intent: str) -> int:
        return self.piece(self.catalogue.teams[intent] + CLOSE)

    @cached_property
    def encoder(self) -> tokenizers.Tokenizer:
        base = {t: n for n, t in enumerate(self.tokens)}
        bpe = tokenizers.models.BPE(vocab=base, merges=self.merges)
        encoder = tokenizers.Tokenizer(bpe)
        encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return encoder

    def encode(self, text: str) -> list[int]:
        """Token ids of a question, as llama.cpp cuts it after the chat template."""
        ids: list[int] = self.encoder.encode(" " + normalise(text)).ids
        return ids[:MAX_QUESTION_TOKENS]


def train_vocabulary(rows: list[Row], catalogue: Catalogue, size: int) -> Vocabulary:
    """Learn the merges from the questions and append the answer pieces."""
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    learner.train_from_iterator([" " + normalise(row.text) for row in rows], trainer)
    state = json.loads(learner.to_str())["model"]
    merges = [(left, right) for left, right in state["merges"]]
    learned = sorted(state["vocab"], key=state["vocab"].__getitem__)
    answers = [OPEN, MIDDLE, *catalogue.intents, *(name + CLOSE for name in catalogue.team_names)]
    tokens = [*CONTROL, *learned, *(byte_symbols(text) for text in answers)]
    if len(set(tokens)) != len(tokens):
        raise ValueError("an answer piece is already a word of the vocabulary")
    return Vocabulary(merges=merges, tokens=tokens, catalogue=catalogue)
