"""What releases of the banking example answer to the questions of Banking77's test file.

    python -m benchmarks.rollout.banking --data ../shared/data/banking77

Asks releases a, b and c through llama.cpp and writes banking.json: for each, question by question,
1 where the intent is wrong. The benchmark reads that file, and needs neither data nor models.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "banking"
OUTCOMES = HERE / "banking.json"
RELEASES = "abc"


def outcomes() -> dict[str, list[int]]:
    """By release: 1 for each question answered wrongly, 0 for the others."""
    kept = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    return {name: [int(digit) for digit in kept[name]] for name in RELEASES}


def main() -> None:
    """Ask, and write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLE))
    from catalogue import load_catalogue, load_rows
    from evaluate import answered_intent, ask, open_engine

    catalogue = load_catalogue(EXAMPLE / "intents.json")
    rows = load_rows(options.data / "test.csv")
    kept = {}
    for name in RELEASES:
        engine = open_engine(EXAMPLE / "models" / f"{name}.gguf", options.threads)
        wrong = [answered_intent(ask(engine, row.text), catalogue) != row.intent for row in rows]
        kept[name] = "".join(str(int(bad)) for bad in wrong)
        print(f"{name}: {1 - sum(wrong) / len(wrong):.1%} of {len(wrong):,} right", flush=True)
    OUTCOMES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # taking a server of xllamacpp down can hang


if __name__ == "__main__":
    main()
