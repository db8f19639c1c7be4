"""How workers behind one socket show each other their metrics.

Each worker writes its values to `<boot>.metrics` once a second, as a whole. `/metrics` of any
worker is the sum over all of them. What dead workers had counted must stay in the sum, or every
counter would seem to be reset: a worker that starts folds their files into `retired.metrics`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.gateway.records.metric_families import FamilyState, add_up

_log = logging.getLogger("fairlead.gateway")
_SUFFIX = ".metrics"
_RETIRED = f"retired{_SUFFIX}"
_SILENT_S = 5.0
_DEAD_S = 60.0


class Published(msgspec.Struct, frozen=True):
    """One worker's file, or the sum of those of dead workers.

    Attributes:
        at: Unix time in seconds at which it was written.
        folded: Boots whose files are in this sum, and must not be counted again.
    """

    at: float
    families: list[FamilyState]
    folded: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(Published)


class MetricsShare:
    """The folder in which the workers of one gateway meet."""

    def __init__(self, folder: Path, boot: str) -> None:
        self._folder = folder
        self._boot = boot
        self._is_failing = False
        self._shown: list[FamilyState] = []

    def publish(self, families: list[FamilyState]) -> None:
        """Show this worker's present values; a disk that refuses is logged once."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(f"{self._boot}{_SUFFIX}", Published(at=time.time(), families=families))
        except OSError as error:
            if not self._is_failing:
                _log.warning("metrics cannot be shared: %s", error.strerror)
            self._is_failing = True
        else:
            self._is_failing = False
            self._shown = families

    def total(self, own: list[FamilyState]) -> list[FamilyState]:
        """The sum over all workers; gauges of those that are silent are left out.

        No counter of it is ever lower than one that any worker showed before, or Prometheus would
        take that for a restart, and count all of it again. So what this worker shows is written
        down first; while that is refused, it goes by what the others see of it.
        """
        self.publish(own)
        if self._is_failing and self._shown:
            own = [family for family in own if family.kind == "gauge"] + _counters(self._shown)
        retired = self._read(_RETIRED)
        folded = set(retired.folded) if retired else set()
        groups = [own]
        if retired:
            groups.append(retired.families)
        now = time.time()
        for boot, published in self._others():
            if boot not in folded:
                is_live = now - published.at < _SILENT_S
                groups.append(published.families if is_live else _counters(published.families))
        return add_up(groups)

    def fold_dead(self) -> None:
        """Fold the files of workers that ended long ago into one."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                self._fold(time.time())
        except OSError as error:
            _log.warning("metrics of ended workers cannot be folded: %s", error.strerror)

    def _fold(self, now: float) -> None:
        retired = self._read(_RETIRED) or Published(at=now, families=[])
        known = set(retired.folded)
        files = dict(self._others())
        dead = {
            boot: published
            for boot, published in files.items()
            if boot not in known and now - published.at > _DEAD_S
        }
        if dead:
            # What a newer worker counts has the newer labels: those of the first are kept.
            groups = [*(_counters(p.families) for p in dead.values()), retired.families]
            # Names of files that are gone need not be remembered any longer.
            folded = tuple(sorted((known & files.keys()) | dead.keys()))
            self._write(_RETIRED, Published(at=now, families=add_up(groups), folded=folded))
        for boot in known | dead.keys():
            (self._folder / f"{boot}{_SUFFIX}").unlink(missing_ok=True)

    def _others(self) -> Iterator[tuple[str, Published]]:
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                boot = path.name.removesuffix(_SUFFIX)
                if path.name != _RETIRED and boot != self._boot:
                    published = self._read(path.name)
                    if published is not None:
                        yield boot, published

    def _read(self, name: str) -> Published | None:
        try:
            published = decode_with(_decoder, (self._folder / name).read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return published if all(map(_is_sound, published.families)) else None

    def _write(self, name: str, published: Published) -> None:
        temporary = self._folder / f".{name}.{self._boot}"
        temporary.write_bytes(msgspec.json.encode(published))
        temporary.replace(self._folder / name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_sound(family: FamilyState) -> bool:
    """Whether each series has the shape that its family says."""
    width = len(family.buckets) + 2 if family.kind == "histogram" else 1
    return all(
        len(labels) == len(family.labels) and len(values) == width
        for labels, values in family.series
    )


def _counters(families: list[FamilyState]) -> list[FamilyState]:
    return [family for family in families if family.kind != "gauge"]
