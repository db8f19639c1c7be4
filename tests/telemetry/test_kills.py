"""Killed between any two operations on files, the next life has every record, once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from fairlead.telemetry import files
from fairlead.telemetry.catalogue import Catalogue, SpoolPosition
from fairlead.telemetry.store import TelemetryStore

from .conftest import HOUR, NOON, Rig, request, said, settle

OPERATIONS = ("write", "sync", "rename", "unlink")
DAY = 24 * HOUR
STRIDE = 13
"""Operations between two of those that are tried in one run."""


class Killed(BaseException):
    """The process is gone; nobody catches it."""


class Killer:
    """Ends the life before its n-th operation on files, or just after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: float = float("inf")
        self.after = False
        self.dead = False
        for name in OPERATIONS:
            original = getattr(files, name)
            killing = self._killing(original)
            monkeypatch.setattr(files, name, killing)
            for module in ("writer", "adoption"):
                path = f"fairlead.telemetry.{module}.{name}"
                monkeypatch.setattr(path, killing, raising=False)
        monkeypatch.setattr(Catalogue, "_commit", self._killing(Catalogue._commit))
        # What a dying process does not do: tidy up behind itself.
        monkeypatch.setattr("fairlead.telemetry.writer.discard", self._unless_dead(files.discard))

    def _killing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any) -> Any:
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left <= 0 and not self.after:
                self.dead = True
                raise Killed
            done = original(*given)
            if self.left <= 0:
                self.dead = True
                raise Killed
            return done

        return operation

    def _unless_dead(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any) -> Any:
            return None if self.dead else original(*given)

        return operation


class Spools:
    """Two spools, and a store that reads on in each from where it is."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.portions = {
            boot: [
                (
                    [
                        request(f"{boot}-{n}-{k}", NOON + 70 * n + k, service=f"s{k % 2}")
                        for k in range(2)
                    ]
                    # One is spooled twice, and one comes for an hour that is long over.
                    + [request(f"{boot}-{n}-0", NOON + 70 * n, service="s0")]
                    + [request(f"{boot}-{n}-late", NOON - 9 * HOUR + n)],
                    [said(f"{boot}-f{n}", f"{boot}-{n}-0")],
                )
                for n in range(3)
            ]
            for boot in ("b1", "b2")
        }

    @property
    def ids(self) -> list[str]:
        return sorted({r.id for portions in self.portions.values() for p in portions for r in p[0]})

    @property
    def feedback(self) -> list[str]:
        return sorted({f.id for portions in self.portions.values() for p in portions for f in p[1]})

    def live(self, store: TelemetryStore) -> None:
        """Take in all that is left, with upkeep all the time."""
        for boot, portions in self.portions.items():
            done = store.positions().get(boot, SpoolPosition()).offset
            for n in range(done, len(portions)):
                requests, feedback = portions[n]
                store.take_in(requests, feedback, {boot: SpoolPosition(1, n + 1)})
                self.rig.clock.now += HOUR
                store.step()
        self.rig.clock.now += 2 * HOUR
        settle(store)
        self.rig.clock.now += HOUR
        settle(store)


def lives(rig: Rig, killer: Killer, spools: Spools, kill_at: int, after: bool) -> bool:
    """One life that is killed, and one that is not; whether the first was killed at all."""
    killer.left, killer.after, killer.dead = kill_at, after, False
    rig.clock.now = NOON + HOUR / 2
    store = None
    try:
        store = rig.store()
        spools.live(store)
    except Killed:
        pass
    killed, killer.left, killer.dead = killer.dead, float("inf"), False
    if store is not None:
        store.close()
    if killed:
        # Who reads between the two lives sees nothing twice, whatever was half done.
        seen = rig.ids() if (rig.folder / "catalogue.db").exists() and store is not None else []
        assert len(seen) == len(set(seen))
    rig.clock.now = NOON + HOUR / 2 + DAY
    again = rig.store()
    spools.live(again)
    again.close()
    return killed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_operation_nothing_is_lost_and_nothing_is_twice(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Each life is killed at a later operation, until one comes to its end; another start each run.

    A life has some 250 operations.
    """
    killer = Killer(monkeypatch)
    count = 0
    for kill_at in range(random.randint(1, STRIDE), 10_000, STRIDE):
        rig = Rig(tmp_path / str(kill_at))
        spools = Spools(rig)
        killed = lives(rig, killer, spools, kill_at, after)
        assert rig.ids() == spools.ids, kill_at
        assert rig.ids("feedback") == spools.feedback, kill_at
        # Nothing is left lying about: what is there is what counts.
        with_catalogue = Catalogue(rig.folder / "catalogue.db")
        places = {str(rig.folder / "data" / file.place) for file in with_catalogue.files()}
        removed = {str(rig.folder / "data" / f.place) for f in with_catalogue.files("removed")}
        with_catalogue.close()
        assert places <= {str(path) for path in rig.data()} <= places | removed
        assert list((rig.folder / "tmp").glob("*.*")) == []
        rig.close()
        count += killed
        if not killed:
            break
    else:
        raise AssertionError("no life came to its end")
    assert count > 5


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_while_the_catalogue_is_made_anew_nothing_is_lost(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    killer = Killer(monkeypatch)
    for kill_at in range(random.randint(1, 5), 1_000, 5):
        rig = Rig(tmp_path / str(kill_at))
        spools = Spools(rig)
        first = rig.store()
        spools.live(first)
        first.close()
        (rig.folder / "catalogue.db").write_bytes(b"not a database" * 100)
        killer.left, killer.after, killer.dead = kill_at, after, False
        with contextlib.suppress(Killed):
            rig.store().close()
        killed, killer.left, killer.dead = killer.dead, float("inf"), False
        again = rig.store()
        assert again.positions() == {}
        assert (rig.ids(), rig.ids("feedback")) == (spools.ids, spools.feedback), kill_at
        spools.live(again)  # the spools are read from their beginning, and nothing is twice
        assert (rig.ids(), rig.ids("feedback")) == (spools.ids, spools.feedback), kill_at
        rig.close()
        if not killed:
            return
    raise AssertionError("no life came to its end")
