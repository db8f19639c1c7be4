"""What a gateway worker does not load, it does not hold in memory, once per worker."""

from __future__ import annotations

import subprocess
import sys


def test_what_a_worker_begins_with_is_nothing_for_the_garbage_collector() -> None:
    """To look at all of it would hold up every request for some milliseconds."""
    code = (
        "import gc, fairlead.app.gateway_process; from fairlead.gateway import server; "
        "server.spare_collector(); print(gc.get_freeze_count() > 20_000, len(gc.get_objects()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    is_frozen, left = done.stdout.split()
    assert is_frozen == "True"
    assert int(left) < 1_000


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
