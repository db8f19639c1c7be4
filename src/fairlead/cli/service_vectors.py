"""`fairlead monitor vectors --service`: a table fitted to what users of one service ask."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fairlead.app.state import StatePaths
from fairlead.cli.options import client, say, size
from fairlead.control.sample_views import SampleView
from fairlead.domain.errors import InvalidInput, StorageFailed
from fairlead.embedding.teacher import Teacher

TEXTS_MAX = 4_000
"""So many different texts are fitted to, at most: the newest ones."""
TEXTS_GOOD = 2_000
"""So many it was measured with (`benchmarks/monitoring`); fewer teach less."""
PAGE, PAGES_MAX = 1_000, 20
_EVERY = 400


def asked(service: str, state: Path) -> list[str]:
    """What users of the service asked, as its sample keeps it, each text once, the oldest first.

    Raises InvalidInput where that is too little to fit to, and what asking control raises.
    """
    from fairlead.embedding.fitting import TEXTS_MIN

    texts: dict[str, None] = {}
    before: float | None = None
    for _ in range(PAGES_MAX):
        found = client(state).get(
            list[SampleView], "samples", service=service, limit=PAGE, before=before
        )
        texts |= dict.fromkeys(said for row in found if (said := _last_said(row)).strip())
        if len(found) < PAGE or len(texts) >= TEXTS_MAX:
            break
        before = found[-1].at
    if len(texts) < TEXTS_MIN:
        raise InvalidInput(
            f"{service}: its sample has {len(texts):,} different prompts, and {TEXTS_MIN} are "
            "needed to fit a table to",
            hint="`capture` in its manifest says how many are kept, and for how long",
        )
    return list(texts)[:TEXTS_MAX][::-1]


def fit(teacher: Teacher, service: str, texts: list[str], paths: StatePaths) -> None:
    """Make the table, in place of one that is there; raises InvalidInput, StorageFailed."""
    from fairlead.embedding.teaching import taught

    try:
        table = taught(teacher, texts, _told)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    place = paths.service_vectors / service
    fresh = place.with_name(f".{service}.{os.getpid()}")
    try:
        paths.service_vectors.mkdir(mode=0o700, exist_ok=True)
        table.save(fresh)
        shutil.rmtree(place, ignore_errors=True)
        fresh.replace(place)
        held = sum(file.stat().st_size for file in place.iterdir())
    except OSError as error:
        raise StorageFailed(f"{place}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(f"{place}: fitted to {len(texts):,} prompts, {size(held)}")
    if len(texts) < TEXTS_GOOD:
        say(
            (f"of fewer than {TEXTS_GOOD:,} different prompts it may tell apart no more than the "
             "table of words does: keep more of them, and fit it --anew", "yellow")
        )  # fmt: skip
    say(
        (f"drift of {service} goes by it from the next `fairlead up` on, and learns anew what is "
         "usual, from what is asked then", "dim")
    )  # fmt: skip


def _last_said(row: SampleView) -> str:
    """The last words of a person."""
    said = [text for role, text in row.prompt if role not in ("system", "developer", "assistant")]
    return said[-1] if said else ""


def _told(done: int, of: int) -> None:
    if done // _EVERY != (done - 32) // _EVERY or done == of:
        say(f"{done:,} of {of:,} prompts")
