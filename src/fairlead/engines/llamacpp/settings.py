"""The settings of the llama.cpp engine, as a release gives them under `engine.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.domain.errors import InvalidInput
from fairlead.engines.settings import setting

ENGINE = "llama.cpp"
POOLINGS = ("", "mean", "cls", "last")


@dataclass(frozen=True)
class LlamaCppSettings:
    """All of them are part of the engine digest: another value is another release."""

    context: int = setting(
        4096,
        "Tokens of context over all slots. One slot has context / slots of them, rounded up to "
        "a multiple of 256, and never more than the model was trained with.",
        least=256,
        most=16 * 1024 * 1024,
    )
    slots: int = setting(4, "Requests answered at the same time.", least=1, most=256)
    threads: int = setting(
        0, "Compute threads; 0 chooses by the size of the model.", least=0, most=512
    )
    batch: int = setting(
        512,
        "Tokens of prompt taken in one step; the longest text of an embedding.",
        least=32,
        most=65536,
    )
    embeddings: bool = setting(False, "Serve /v1/embeddings, and probe the replica by it.")
    pooling: str = setting(
        "", "How an embedding is pooled: mean, cls or last; empty takes the model's own way."
    )
    chat_template: str = setting(
        "", "Jinja chat template in place of the model's own.", most=64 * 1024
    )

    def __post_init__(self) -> None:
        """Raises `InvalidInput` when the way of pooling is unknown."""
        if self.pooling not in POOLINGS:
            raise InvalidInput(
                f"engine {ENGINE}: setting `pooling` is {self.pooling!r}",
                hint=f"Known are {', '.join(POOLINGS[1:])}.",
            )
