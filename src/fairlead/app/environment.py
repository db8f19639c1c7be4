"""The environment of the processes that `fairlead up` starts."""

from __future__ import annotations

from collections.abc import Mapping

CREDENTIAL_VARIABLE = "FAIRLEAD_CONTROL_TOKEN"
ARENAS_VARIABLE = "MALLOC_ARENA_MAX"
ARENAS_MAX = "2"
"""The C library keeps a heap of its own for each thread, and gives none of it back: control, whose
threads only take turns, would grow by a tenth within minutes. Replicas do not inherit this."""
BLAS_VARIABLE = "OPENBLAS_NUM_THREADS"
BLAS_THREADS = "1"
"""numpy's OpenBLAS reads this once, when it is loaded, and otherwise starts a thread for each core:
monitors of texts would take all cores from the gateway for products of small matrices. So it has to
be there before the process begins. Replicas do not inherit this."""


def child_environment(environ: Mapping[str, str], token: str | None) -> dict[str, str]:
    """What a child gets: all of `environ` but the user's token, and its own one, if it has one."""
    made = {ARENAS_VARIABLE: ARENAS_MAX, BLAS_VARIABLE: BLAS_THREADS, **environ}
    made.pop(CREDENTIAL_VARIABLE, None)
    if token is not None:
        made[CREDENTIAL_VARIABLE] = token
    return made
