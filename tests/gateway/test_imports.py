"""What a gateway worker does not load, it does not hold in memory, once per worker."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_without_patterns_loads_no_engine_for_them() -> None:
    """The engine of `fairlead.domain.patterns` is 5 MB."""
    code = (
        "import sys, fairlead.app.gateway_process, fairlead.domain.patterns as patterns; "
        "print('pydantic_core' in sys.modules, patterns.found('b+', 'abc'), "
        "'pydantic_core' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"]
