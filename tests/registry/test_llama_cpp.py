"""llama.cpp loads what the registry hands out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.registry import BuildInput, Registry

EXAMPLES = Path(__file__).parents[2] / "examples" / "banking" / "models"

# xllamacpp can hang while it takes a server down at the end of the interpreter, so there is no end.
LOAD = """
import os
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 128
params.warmup = False
server = xllamacpp.Server(params)
print("loaded", flush=True)
os._exit(0)
"""


@pytest.mark.live
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example's models are not in this checkout")
def test_llama_cpp_loads_a_blob_by_its_path(
    registry: Registry, given: Callable[..., BuildInput]
) -> None:
    """A blob has no `.gguf` at its end; the engine does not need it."""
    entry = registry.build(given(model=EXAMPLES / "a.gguf"), now=1.0)
    (path,) = registry.weights(entry.digest)
    assert path.suffix == ""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "loaded" in done.stdout, done.stderr[-2000:]
