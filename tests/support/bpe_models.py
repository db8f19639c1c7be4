"""Models with an ordinary tokenizer: byte-level BPE as that of GPT-2, trained here on a few texts.

Their tokens are words with the space before them, parts of words, and parts of characters.

- The *fluent* one says a text in the tokens that its tokenizer would cut it into, as trained models
  nearly always do.
- The *halting* one says some words in pieces that its tokenizer would have merged.
- The *rambling* one has random weights: what it says next depends on every token before, and it
  says nothing as its tokenizer would.
"""

from __future__ import annotations

import csv
import itertools
import json
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as bases

from support.installation import BANKING
from support.models import follower, tiny_gguf

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 900
CONTROL = 3
FOREIGN = (
    "Die Überweisung läuft übers Wochenende: schöne Grüße, größere Beträge brauchen länger. "
    "Où est ma carte déjà envoyée ? Ça a été refusé à l'étranger, très désolé. "
    "日本語でも大丈夫です。日本のカードは使えますか。 カードを使えます。 "
)
RARE = ("☕", "𝄞", "ж", "ह")
"""In no text that the tokenizer is trained on: each byte of them is a token."""
SAID = 150
SPLIT_EVERY, RARE_EVERY = 9, 31
HEARD = 80


def trained() -> Tokenizer:
    """A tokenizer of its own vocabulary."""
    with (BANKING / "traffic.csv").open(newline="", encoding="utf-8") as rows:
        texts = [row["text"] for row in csv.DictReader(rows)]
    made = Tokenizer(bases.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*texts, *[FOREIGN] * 40], trainer)
    return made


@dataclass
class Vocabulary:
    """A tokenizer, and what the models are made of."""

    tokenizer: Tokenizer = field(default_factory=trained)

    def __post_init__(self) -> None:
        described = json.loads(self.tokenizer.to_str())["model"]
        numbers: dict[str, int] = described["vocab"]
        self.tokens = sorted(numbers, key=numbers.__getitem__)
        self.numbers = numbers
        self.merges: list[tuple[str, str]] = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            for merge in described["merges"]
        ]

    def text(self, numbers: list[int]) -> str:
        """What these tokens read as."""
        decoded: str = self.tokenizer.decode(numbers, skip_special_tokens=False)
        return decoded

    def read(self, text: str) -> list[int]:
        """The tokens that a text is cut into."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def is_text(self, number: int) -> bool:
        """Whether this token is whole characters that can be seen, or spaces."""
        text = self.text([number])
        return number >= len(SPECIAL) and text.isprintable() and "\ufffd" not in text

    def entries(self, context: int) -> list[bytes]:
        """Metadata of a GGUF file."""
        tiny = tiny_gguf()
        kinds = [CONTROL if token in SPECIAL else tiny.NORMAL for token in self.tokens]
        merges = [tiny.text(f"{left} {right}") for left, right in self.merges]
        end = self.numbers["<|im_end|>"]
        return [
            *tiny.architecture(context, len(self.tokens)),
            tiny.entry("tokenizer.ggml.model", tiny.STRING, tiny.text("gpt2")),
            tiny.entry("tokenizer.ggml.pre", tiny.STRING, tiny.text("gpt-2")),
            tiny.array("tokenizer.ggml.tokens", tiny.STRING, [tiny.text(t) for t in self.tokens]),
            tiny.array(
                "tokenizer.ggml.token_type", tiny.INT32, [struct.pack("<i", k) for k in kinds]
            ),
            tiny.array("tokenizer.ggml.merges", tiny.STRING, merges),
            tiny.number("tokenizer.ggml.bos_token_id", self.numbers["<|endoftext|>"]),
            tiny.number("tokenizer.ggml.eos_token_id", end),
            tiny.entry("tokenizer.ggml.add_bos_token", tiny.BOOL, b"\x00"),
            tiny.entry("tokenizer.chat_template", tiny.STRING, tiny.text(TEMPLATE)),
        ]

    # What is said

    def fluent(self) -> list[int]:
        """Tokens, none of them twice, that their text is read back as."""
        return self._said(lambda: iter(()))

    def halting(self) -> list[int]:
        """The same with pairs among them that are read back as one token."""
        pairs = [
            (self.numbers[left], self.numbers[right])
            for left, right in self.merges
            if all(self.is_text(self.numbers[part]) for part in (left, right, left + right))
        ]
        random.Random(2).shuffle(pairs)
        return self._said(lambda: iter(pairs))

    def _said(self, split: Callable[[], Iterator[tuple[int, int]]]) -> list[int]:
        pairs = split()
        dice = random.Random(1)
        words = [n for n in range(len(self.tokens)) if self.is_text(n)]
        dice.shuffle(words)
        # Long ones first, so that most of what is said is words with a space before them.
        words.sort(key=lambda number: -min(len(self.text([number])), 4))
        said: list[int] = []
        is_read_back = True
        rare = iter(RARE)
        while len(said) < SAID:
            if len(said) % RARE_EVERY == RARE_EVERY - 1 and (char := next(rare, "")):
                said += self.read(char)
                continue
            if len(said) % SPLIT_EVERY == SPLIT_EVERY - 1:
                pair = next((p for p in pairs if not set(p) & set(said)), None)
                if pair is not None:
                    said += pair
                    is_read_back = False
                    continue
            tail = said[-1:]
            number = next(n for n in words if n not in said and self._joins(tail, n))
            said.append(number)
        assert (self.read(self.text(said)) == said) == is_read_back
        assert len(set(said)) == len(said)
        return said

    def _joins(self, tail: list[int], number: int) -> bool:
        """Whether a token behind another is read back as itself."""
        if not tail or "\ufffd" in self.text(tail):
            return True
        return self.read(self.text([*tail, number])) == [*tail, number]


def says(path: Path, known: Vocabulary, said: list[int], *, begins_after: list[int]) -> Path:
    """A model that says these tokens.

    Args:
        begins_after: The last tokens of prompts.
    """
    follows = dict(itertools.pairwise(said))
    follows.update(dict.fromkeys(begins_after, said[0]))
    return follower(path, known.entries(4096), len(known.tokens), follows)


def rambler(path: Path, known: Vocabulary, *, seed: int = 3) -> Path:
    """A model of random weights that says parts of words which its tokenizer joins, for ever."""
    tiny = tiny_gguf()
    chance = random.Random(seed)
    joined = Counter(
        known.numbers[part]
        for merge in known.merges
        for part in merge
        if known.is_text(known.numbers[part])
    )
    heard = {number for number, _ in joined.most_common(HEARD)}
    named = []
    for name, dims in tiny.tensors(len(known.tokens)):
        count = dims[0] * (dims[1] if len(dims) == 2 else 1)
        scale, centre = (0.0, 1.0) if len(dims) == 1 else (0.1, 0.0)
        values = [chance.gauss(centre, scale) for _ in range(count)]
        if name == "token_embd.weight":
            values = [5.0 * value for value in values]
        elif name.endswith("attn_output.weight"):
            # Enough that each token before counts, so little that their rounding does not: a cache
            # has 11 bits, and a prompt read at once is not added up as tokens said one by one.
            values = [0.1 * value for value in values]
        elif name == "output.weight":
            values = [
                value if place // tiny.WIDTH in heard else 0.0 for place, value in enumerate(values)
            ]
        named.append((name, dims, values))
    written: Path = tiny.write_file(path, known.entries(4096), named)
    return written
