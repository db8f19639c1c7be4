"""Models that tests make for themselves."""

from __future__ import annotations

import importlib.util
import math
import random
from pathlib import Path
from types import ModuleType

_TINY = Path(__file__).parents[1] / "engines" / "tiny_gguf.py"
ALPHABET = [chr(0x4E00 + number) for number in range(512)]
"""What a reciter says: each character is one token, in no order that a text would have."""
_AS_IT_IS = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def _tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_gguf", _TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speller(path: Path, *, context: int = 4096) -> Path:
    """A random llama that spells without end; its text read back is the tokens that it said."""
    made: Path = _tiny().write(path, context=context, spells=True)
    return made


def reciter(path: Path, *, context: int = 4096, layers: int = 2) -> Path:
    """A llama that goes on from any character of `ALPHABET` as `recited` says.

    Its answer to each prompt is known beforehand, holds no character twice in 512, and can be read
    back as the tokens that it said: what is missing, doubled or mixed up shows. Attention and feed
    forward are computed as in any llama, and then weighed with nothing; more layers take more time.
    """
    tiny = _tiny()
    kinds = tiny.vocabulary((), ALPHABET)[2]
    first = len(kinds) - len(ALPHABET)
    chance = random.Random(0)
    meant = [_direction(chance, tiny.WIDTH) for _ in kinds]
    after = [[0.0] * tiny.WIDTH for _ in kinds]
    for number in range(len(ALPHABET)):
        after[first + (number + 1) % len(ALPHABET)] = meant[first + number]
    named = []
    for name, dims in tiny.tensors(len(kinds), layers):
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
    written: Path = tiny.write_file(
        path, tiny.metadata(context, (), ALPHABET, _AS_IT_IS, layers), named
    )
    return written


def recited(prompt: str, tokens: int) -> str:
    """What the reciter answers to a prompt that ends with a character of `ALPHABET`."""
    begin = ALPHABET.index(prompt[-1]) + 1
    return "".join(ALPHABET[(begin + number) % len(ALPHABET)] for number in range(tokens))


def _direction(chance: random.Random, width: int) -> list[float]:
    drawn = [chance.gauss(0.0, 1.0) for _ in range(width)]
    length = math.hypot(*drawn)
    return [value / length for value in drawn]
