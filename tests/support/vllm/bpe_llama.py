"""Writes a Llama with an ordinary tokenizer as vLLM reads it; neither needs torch to be written.

It is the model of `support.bpe_models` in another form.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from support.bpe_models import TEMPLATE, Vocabulary
from support.models import Tensor, following, tiny_gguf

CONTEXT = 2048
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def says(folder: Path, known: Vocabulary, said: list[int], *, begins_after: list[int]) -> Path:
    """A model that says these tokens.

    Args:
        begins_after: The last tokens of prompts.
    """
    follows = dict(itertools.pairwise(said))
    follows.update(dict.fromkeys(begins_after, said[0]))
    folder.mkdir()
    _write_config(folder, known)
    _write_tensors(folder / "model.safetensors", following(len(known.tokens), follows))
    return folder


def _write_config(folder: Path, known: Vocabulary) -> None:
    tiny = tiny_gguf()
    begin, end = known.numbers["<|endoftext|>"], known.numbers["<|im_end|>"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": tiny.WIDTH,
        "intermediate_size": tiny.FEED_FORWARD,
        "num_hidden_layers": tiny.LAYERS,
        "num_attention_heads": tiny.HEADS,
        "num_key_value_heads": tiny.HEADS,
        "head_dim": tiny.WIDTH // tiny.HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "vocab_size": len(known.tokens),
        "bos_token_id": begin,
        "eos_token_id": end,
    }
    tokenizer = {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    known.tokenizer.save(str(folder / "tokenizer.json"))


def _write_tensors(path: Path, named: Sequence[Tensor]) -> None:
    """In the format of safetensors: the size of a head, the head in JSON, the values."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    at = 0
    for name, dims, values in named:
        block = struct.pack(f"<{len(values)}f", *values)
        end = at + len(block)
        shape = list(reversed(dims))
        head[_name(name)] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        blocks.append(block)
        at = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def _name(name: str) -> str:
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer is not None:
        return f"model.layers.{layer[1]}.{_NAMES[layer[2]]}.weight"
    return f"{_NAMES[name.removesuffix('.weight')]}.weight"
