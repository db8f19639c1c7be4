"""Check a GGUF release against the training code, on every question of a CSV file.

    python examples/banking/check.py examples/banking/models/b.gguf

1. llama.cpp cuts every question, after the chat template, into the tokens trained on.
2. The file, loaded by transformers as ``LlamaForCausalLM``, names the same intents as llama.cpp.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gguf
import numpy as np
import torch
import transformers
import xllamacpp

from catalogue import Catalogue, Row, load_catalogue, load_rows
from data import ANSWER, BOS, Vocabulary
from evaluate import answered_intent, ask, end, open_engine
from gguf_export import gguf_name


def read_vocabulary(path: Path, catalogue: Catalogue) -> Vocabulary:
    """The vocabulary as the file has it."""
    fields = gguf.GGUFReader(path).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    merges: list[str] = fields["tokenizer.ggml.merges"].contents()
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    return Vocabulary(merges=pairs, tokens=tokens, catalogue=catalogue)


def post(engine: xllamacpp.Server, route: str, body: dict[str, Any]) -> dict[str, Any]:
    address = urlsplit(engine.listening_address)
    connection = HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=30)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", route, body=json.dumps(body), headers=headers)
    with connection.getresponse() as response:
        out: dict[str, Any] = json.load(response)
    connection.close()
    return out


def served_tokens(engine: xllamacpp.Server, question: str) -> list[int]:
    """The prompt's token ids, by llama.cpp's own template engine and tokenizer."""
    messages = [{"role": "user", "content": question}]
    prompt = post(engine, "/apply-template", {"messages": messages})["prompt"]
    body = {"content": prompt, "add_special": True, "parse_special": True}
    tokens: list[int] = post(engine, "/tokenize", body)["tokens"]
    return tokens


def expected_tokens(vocabulary: Vocabulary, question: str) -> list[int]:
    return [vocabulary.control(BOS), *vocabulary.encode(question), vocabulary.control(ANSWER)]


def restore_heads(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo ``gguf_export.interleave_heads``."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def reference_model(path: Path) -> transformers.LlamaForCausalLM:
    """The file's weights in the Llama of transformers."""
    reader = gguf.GGUFReader(path)
    value = {name: field.contents() for name, field in reader.fields.items()}
    heads = value["llama.attention.head_count"]
    config = transformers.LlamaConfig(
        vocab_size=value["llama.vocab_size"],
        hidden_size=value["llama.embedding_length"],
        num_hidden_layers=value["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=value["llama.feed_forward_length"],
        rms_norm_eps=value["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": value["llama.rope.freq_base"]},
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    state: dict[str, torch.Tensor] = {}
    for name in model.state_dict():
        weight = tensors[gguf_name(name.removeprefix("model."))]
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = restore_heads(weight, heads)
        state[name] = torch.tensor(weight)
    model.load_state_dict(state)
    return model


@torch.no_grad()
def reference_intents(path: Path, vocabulary: Vocabulary, rows: Sequence[Row]) -> list[str]:
    model = reference_model(path)
    model.eval()
    ids = torch.tensor(vocabulary.intent_ids)
    names = vocabulary.catalogue.intents
    out: list[str] = []
    for row in rows:
        tokens = [*expected_tokens(vocabulary, row.text), vocabulary.open]
        scores = model(torch.tensor([tokens])).logits[0, -1, ids]
        out.append(names[int(scores.argmax())])
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77/test.csv"))
    parser.add_argument("--limit", type=int, default=500, help="questions for the second check")
    options = parser.parse_args(arguments)
    catalogue = load_catalogue()
    rows = load_rows(options.data)
    vocabulary = read_vocabulary(options.model, catalogue)
    engine = open_engine(options.model, threads=1)
    differing = sum(
        served_tokens(engine, row.text) != expected_tokens(vocabulary, row.text) for row in rows
    )
    print(f"tokens: {differing} of {len(rows)} questions are cut differently")
    few = rows[:: max(1, len(rows) // options.limit)][: options.limit]
    served = [answered_intent(ask(engine, row.text), catalogue) for row in few]
    reference = reference_intents(options.model, vocabulary, few)
    agreeing = sum(a == b for a, b in zip(served, reference, strict=True))
    print(f"intents: transformers and llama.cpp agree on {agreeing} of {len(few)} questions")
    return 0 if differing == 0 and agreeing >= 0.99 * len(few) else 1


if __name__ == "__main__":
    end(main())
