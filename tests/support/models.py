"""Models that tests make for themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_TINY = Path(__file__).parents[1] / "engines" / "tiny_gguf.py"


def speller(path: Path, *, context: int = 4096) -> Path:
    """A random llama that spells without end; its text read back is the tokens that it said."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", _TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.write(path, context=context, spells=True)
    return made
