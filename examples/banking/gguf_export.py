"""Write a trained model as a GGUF file that llama.cpp reads as the ``llama`` architecture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from torch import Tensor

from data import ANSWER, BOS, CONTROL, EOS, MASK, MAX_QUESTION_CHARACTERS, Vocabulary
from model import Llama, Shape

# The last user message is the question; other messages are ignored. llama.cpp joins a content
# given as a list of parts before the template sees it, and puts a system message in front of the
# first user message unless the template reads it: hence the length that nothing uses.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(q='', unused=0) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- set ns.q = message['content'] | trim | lower -%}"
    "{%- elif message['role'] == 'system' -%}"
    "{%- set ns.unused = message['content'] | length -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    f"{{%- set q = ns.q[:{MAX_QUESTION_CHARACTERS}] | replace('<|', '< |') -%}}"
    f"{{{{- bos_token + ' ' + q + '{ANSWER}' -}}}}"
)

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}


@dataclass(frozen=True)
class Card:
    """What the file says about itself."""

    name: str
    description: str


def gguf_name(name: str) -> str:
    """Translate ``layers.0.mlp.up_proj.weight`` into ``blk.0.ffn_up.weight``."""
    stem = name.removesuffix(".weight")
    if not stem.startswith("layers."):
        return OUTER_NAMES[stem] + ".weight"
    _, number, rest = stem.split(".", 2)
    return f"blk.{number}.{LAYER_NAMES[rest]}.weight"


def interleave_heads(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder query or key rows from "two halves" to the neighbouring pairs llama.cpp rotates."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def quantise(weight: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    if kind == gguf.GGMLQuantizationType.F16:
        return weight.astype(np.float16)
    return gguf.quants.quantize(weight, kind)


def token_types(vocabulary: Vocabulary) -> list[int]:
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    return [int(control if t in CONTROL else normal) for t in vocabulary.tokens]


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(token_types(vocabulary))
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.control(BOS))
    writer.add_eos_token_id(vocabulary.control(EOS))
    writer.add_unk_token_id(vocabulary.control(MASK))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_shape(writer: gguf.GGUFWriter, shape: Shape, kind: gguf.GGMLQuantizationType) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.theta)
    writer.add_vocab_size(shape.vocabulary)
    file_types = {
        gguf.GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
        gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    if kind in file_types:
        writer.add_file_type(int(file_types[kind]))
    # A greedy answer is the only sensible one, so it is the file's default.
    writer.add_sampling_temp(0.0)
    writer.add_sampling_top_k(1)


def add_weights(
    writer: gguf.GGUFWriter,
    weights: dict[str, Tensor],
    heads: int,
    kind: gguf.GGMLQuantizationType,
) -> None:
    for name, tensor in weights.items():
        weight = tensor.detach().float().cpu().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = interleave_heads(weight, heads)
        target = gguf_name(name)
        if weight.ndim == 1:
            writer.add_tensor(target, weight.astype(np.float32))
            continue
        packed = quantise(np.ascontiguousarray(weight), kind)
        raw_kind = None if packed.dtype == np.float16 else kind
        writer.add_tensor(target, packed, raw_dtype=raw_kind)


def export(
    path: Path,
    model: Llama,
    vocabulary: Vocabulary,
    card: Card,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
) -> None:
    """Write the file under a temporary name first, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_name(card.name)
    writer.add_description(card.description)
    writer.add_license("apache-2.0")
    writer.add_dataset_name(0, "BANKING77")
    writer.add_dataset_author(0, "Casanueva et al. 2020, PolyAI")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_shape(writer, model.shape, kind)
    add_vocabulary(writer, vocabulary)
    add_weights(writer, model.state_dict(), model.shape.heads, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, path)
