"""What starts a process or serves a request does not wait for numpy."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["fairlead.cli", "fairlead.gateway.worker", "fairlead.stats"])
def test_numpy_is_not_imported_at_start(module: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import {module}, sys; print('numpy' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"
