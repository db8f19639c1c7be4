"""What a checked model file says about itself."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec


class ModelFacts(msgspec.Struct, frozen=True):
    """Read from a header that was found sound.

    Attributes:
        architecture: The family, such as `llama`; empty where the format does not say.
        name: What the file calls the model; empty where it does not.
        context_length: Tokens the model was made for; None where the file does not say.
        tensors: How many tensors it holds.
        parameters: Elements of all tensors together.
        quantisation: Type of most of the parameters, such as `Q4_K` or `BF16`.
        parts: Files the model is split into; 1 for a whole one.
    """

    format: Literal["gguf", "safetensors"]
    tensors: int
    parameters: int
    quantisation: str
    architecture: str = ""
    name: str = ""
    context_length: int | None = None
    parts: int = 1


def commonest(parameters_by_type: Counter[str]) -> str:
    """The type that most parameters have; empty for a file without tensors."""
    most = parameters_by_type.most_common(1)
    return most[0][0] if most else ""
