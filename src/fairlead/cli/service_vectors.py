"""`fairlead monitor vectors --service`: a table fitted to what users of one service ask."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.app.state import StatePaths
from fairlead.cli.options import client, say, size
from fairlead.control.sample_views import SampleView, last_said
from fairlead.domain.errors import InvalidInput, StorageFailed

if TYPE_CHECKING:
    from fairlead.embedding.teacher import Teacher

TEXTS_MAX = 4_000
"""So many different texts are fitted to, at most: the newest ones."""
TEXTS_GOOD = 2_000
"""So many it was measured with (`benchmarks/monitoring`); fewer teach less."""
PAGE, PAGES_MAX = 250, 80
_EVERY = 320
"""The model is asked about 32 at once."""


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
        texts |= dict.fromkeys(said for row in found if (said := last_said(row.prompt)).strip())
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


def place_of(service: str, paths: StatePaths) -> Path:
    """Where its table is; raises InvalidInput for what is no name of a service."""
    if not service or service.startswith(".") or Path(service).name != service:
        raise InvalidInput(f"--service: {service!r} is no name of a service")
    return paths.service_vectors / service


def check_extra() -> None:
    """Raises InvalidInput without the package that fitting takes."""
    if importlib.util.find_spec("tokenizers") is None:
        raise InvalidInput(
            "a table of a service's own needs the package tokenizers",
            hint="pip install 'fairlead[embedding]'",
        )


def fit(teacher: Teacher, service: str, texts: list[str], paths: StatePaths) -> None:
    """Make the table, in place of one that is there; raises InvalidInput, StorageFailed."""
    from fairlead.embedding.teaching import taught

    try:
        table = taught(teacher, texts, _told)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    place = place_of(service, paths)
    fresh, old = (place.with_name(f".{service}.{name}") for name in ("fresh", "old"))
    try:
        paths.service_vectors.mkdir(mode=0o700, exist_ok=True)
        _sweep(place, fresh, old)
        table.save(fresh)
        if place.exists():
            place.replace(old)
        fresh.replace(place)
        held = sum(file.stat().st_size for file in place.iterdir())
    except OSError as error:
        raise StorageFailed(f"{place}: cannot be written: {error.strerror}") from None
    finally:
        _sweep(place, fresh, old)
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


def _sweep(place: Path, fresh: Path, old: Path) -> None:
    """Leave one table, whatever a run before was stopped at."""
    if old.exists() and not place.exists():
        old.replace(place)
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)


def _told(done: int, of: int) -> None:
    if done % _EVERY == 0 or done == of:
        say(f"{done:,} of {of:,} prompts")
