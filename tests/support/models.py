"""Models that tests make for themselves."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

_TINY = Path(__file__).parents[1] / "engines" / "tiny_gguf.py"
ALPHABET = [chr(0x4E00 + number) for number in range(512)]
"""What a reciter says: each character is one token, in no order that a text would have."""
_AS_IT_IS = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
Tensor = tuple[str, tuple[int, ...], list[float]]
"""Name and dimensions as in a GGUF file (the fastest first), and values."""


def tiny_gguf() -> ModuleType:
    """The module that writes GGUF files; it stands with the tests of engines."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", _TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speller(path: Path, *, context: int = 4096) -> Path:
    """A random llama that spells without end; its text read back is the tokens that it said."""
    made: Path = tiny_gguf().write(path, context=context, spells=True)
    return made


def follower(
    path: Path,
    entries: Sequence[bytes],
    vocabulary_size: int,
    follows: Mapping[int, int],
    *,
    layers: int = 2,
) -> Path:
    """A llama that says after each token the one that follows it here, whatever was before."""
    named = following(vocabulary_size, follows, layers=layers)
    written: Path = tiny_gguf().write_file(path, entries, named)
    return written


def following(vocabulary_size: int, follows: Mapping[int, int], *, layers: int = 2) -> list[Tensor]:
    """The tensors of such a model.

    No more than one or two tokens may have the same follower. Attention and feed forward are
    computed as in any llama, and then weighed with nothing; more layers take more time.
    """
    tiny = tiny_gguf()
    chance = random.Random(0)
    meant = [_direction(chance, tiny.WIDTH) for _ in range(vocabulary_size)]
    after = [[0.0] * tiny.WIDTH for _ in range(vocabulary_size)]
    for token, next_token in follows.items():
        after[next_token] = [a + b for a, b in zip(after[next_token], meant[token], strict=True)]
    named: list[Tensor] = []
    for name, dims in tiny.tensors(vocabulary_size, layers):
        count = math.prod(dims)
        if name == "token_embd.weight":
            values = [value for row in meant for value in row]
        elif name == "output.weight":
            values = [value for row in after for value in row]
        elif len(dims) == 1:
            values = [1.0] * count
        elif name.endswith(("attn_output.weight", "ffn_down.weight")):
            values = [0.0] * count
        else:
            values = [chance.gauss(0.0, 0.1) for _ in range(count)]
        named.append((name, dims, values))
    return named


def reciter(path: Path, *, context: int = 4096, layers: int = 2) -> Path:
    """A llama that goes on from any character of `ALPHABET` as `recited` says.

    Its answer to each prompt is known beforehand, holds no character twice in 512, and can be read
    back as the tokens that it said: what is missing, doubled or mixed up shows.
    """
    tiny = tiny_gguf()
    size = len(tiny.vocabulary((), ALPHABET)[2])
    first = size - len(ALPHABET)
    follows = {
        first + number: first + (number + 1) % len(ALPHABET) for number in range(len(ALPHABET))
    }
    entries = tiny.metadata(context, (), ALPHABET, _AS_IT_IS, layers)
    return follower(path, entries, size, follows, layers=layers)


def recited(prompt: str, tokens: int) -> str:
    """What the reciter answers to a prompt that ends with a character of `ALPHABET`."""
    begin = ALPHABET.index(prompt[-1]) + 1
    return "".join(ALPHABET[(begin + number) % len(ALPHABET)] for number in range(tokens))


def _direction(chance: random.Random, width: int) -> list[float]:
    drawn = [chance.gauss(0.0, 1.0) for _ in range(width)]
    length = math.hypot(*drawn)
    return [value / length for value in drawn]
