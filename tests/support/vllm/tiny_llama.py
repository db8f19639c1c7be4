"""Writes a tiny random Llama that spells greedily without end, run by vLLM's environment.

Its tokens are single letters, so that a text is read back as the tokens that were said. The marks
of JSON are tokens too, but it chooses them only where a grammar leaves nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
MARKS = [*'{}[]"_-0123456789']
LETTERS = [*map(chr, range(97, 123)), " ", ".", ",", "\n", ":", "'"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write(folder: Path) -> None:
    """Write model and tokenizer."""
    unheard = [*SPECIAL, *MARKS]
    words = {token: number for number, token in enumerate([*unheard, *LETTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        model.lm_head.weight[: len(unheard)] = 0.0
        for layer in model.model.layers:
            # What a token says of the next one is far ahead of what rounding can change.
            layer.self_attn.o_proj.weight *= 0.1
    model.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
