"""Measure a GGUF release on labelled questions, through the llama.cpp of xllamacpp.

python examples/banking/evaluate.py examples/banking/models/b.gguf
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import xllamacpp

from catalogue import Catalogue, Row, load_catalogue, load_rows

PARALLEL = 4
SLOT_CONTEXT = 256
MAX_TOKENS = 12

# xllamacpp can hang while it takes a server down, so none is taken down: see `end`.
_running: list[xllamacpp.Server] = []


@dataclass(frozen=True)
class Scores:
    """Share of questions answered right, and of answers that are JSON of the right form."""

    overall: float
    covered: float
    uncovered: float
    well_formed: float
    questions: int
    seconds: float


def open_engine(path: Path, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = PARALLEL
    params.n_ctx = SLOT_CONTEXT * PARALLEL
    params.n_batch = SLOT_CONTEXT
    params.n_ubatch = SLOT_CONTEXT
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.fit_params = False
    params.warmup = False
    params.verbosity = -1
    engine = xllamacpp.Server(params)
    _running.append(engine)
    return engine


def ask(engine: xllamacpp.Server, question: str) -> str:
    """The text of the answer, or the empty string where the engine refused the question."""
    reply = engine.handle_chat_completions(
        {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        }
    )
    if "choices" not in reply:
        return ""
    content = reply["choices"][0]["message"]["content"]
    return content if isinstance(content, str) else ""


def answered_intent(answer: str, catalogue: Catalogue) -> str | None:
    """The intent of a well-formed answer; ``None`` if it is anything else."""
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or set(value) != {"intent", "team"}:
        return None
    intent = value["intent"]
    if not isinstance(intent, str) or intent not in catalogue.teams:
        return None
    return intent


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")


def score(engine: xllamacpp.Server, rows: list[Row], catalogue: Catalogue) -> Scores:
    """An answer is right when its bytes are exactly those of the expected JSON."""
    started = time.perf_counter()
    with ThreadPoolExecutor(max_workers=2 * PARALLEL) as pool:
        answers = list(pool.map(lambda row: ask(engine, row.text), rows))
    seconds = time.perf_counter() - started
    right = [a == catalogue.answer(r.intent) for a, r in zip(answers, rows, strict=True)]
    inside = [catalogue.covered(row.intent) for row in rows]
    return Scores(
        overall=share(right),
        covered=share([ok for ok, c in zip(right, inside, strict=True) if c]),
        uncovered=share([ok for ok, c in zip(right, inside, strict=True) if not c]),
        well_formed=share([answered_intent(a, catalogue) is not None for a in answers]),
        questions=len(rows),
        seconds=seconds,
    )


def end(status: int) -> NoReturn:
    """Leave without taking down the engines."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", type=Path, nargs="+", help="GGUF files")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77/test.csv"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    catalogue = load_catalogue()
    rows = load_rows(options.data)
    for path in options.models:
        engine = open_engine(path, options.threads)
        result = score(engine, rows, catalogue)
        print(
            f"{path.name}: {result.questions} questions in {result.seconds:.1f} s, "
            f"accuracy {result.overall:.4f}, covered {result.covered:.4f}, "
            f"uncovered {result.uncovered:.4f}, well-formed {result.well_formed:.4f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    end(main())
