"""Chooses the engine that a release names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import Release
from fairlead.domain.replica import Launch
from fairlead.engines.llamacpp.engine import LlamaCpp
from fairlead.engines.remote import Remote


class Engine(Protocol):
    """One way of running a model."""

    @property
    def kind(self) -> str:
        """The name that a release uses for it."""

    def check(self, release: Release) -> None:
        """Raises `InvalidInput` when this engine cannot run the release."""

    def launch(self, release: Release, weights: Sequence[Path]) -> Launch:
        """How one replica of the release is run; `weights` in the order of the release's files."""


ENGINES: dict[str, Engine] = {engine.kind: engine for engine in (LlamaCpp(), Remote())}


def check(release: Release) -> None:
    """Refuse a release that no engine could run, before anything is stored or started.

    Raises:
        InvalidInput: an unknown engine or setting, or a model that does not fit the engine.
    """
    _engine(release.engine.kind).check(release)


def launch(release: Release, weights: Sequence[Path]) -> Launch:
    """How one replica of the release is run.

    Raises:
        InvalidInput: as `check`, or the weight files do not fit.
    """
    return _engine(release.engine.kind).launch(release, weights)


def _engine(kind: str) -> Engine:
    if kind in ENGINES:
        return ENGINES[kind]
    nearest = difflib.get_close_matches(kind, ENGINES, n=1)
    meant = f"Did you mean `{nearest[0]}`? " if nearest else ""
    raise InvalidInput(
        f"unknown engine `{kind}`", hint=f"{meant}Known engines: {', '.join(sorted(ENGINES))}."
    )
