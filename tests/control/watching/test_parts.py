"""States are kept in parts: what has not changed is not written again, and nothing is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.watching_world import Outbox, Platform
from fairlead.control.watching.parts import PART_BYTES, divided, joined
from fairlead.control.watching.served import Served
from fairlead.control.watching.watching import Watching
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Monitor, Seen
from fairlead.monitoring.monitors.self_tests import made, seen
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import MinuteRow, RequestRow, SpoolCursor

START = 1_699_920_000.0
WEEKS_H = 3 * 7 * 24

_small = st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=60)
_large = st.text("ab", min_size=PART_BYTES, max_size=PART_BYTES + 5)
_states = st.recursive(
    _small | _large | st.lists(st.integers(0, 9), min_size=400, max_size=900),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(_states)
def test_a_state_that_was_divided_is_joined_again(state: Any) -> None:
    document, parts = divided(state)
    assert joined(document, parts) == state
    assert divided(joined(document, parts)) == (document, parts)


def test_a_change_changes_the_parts_that_it_is_in_and_no_other() -> None:
    def state(changed: int) -> dict[str, Any]:
        past = [[hour, 3.14] for hour in range(600)]
        return {
            "subjects": [
                [f"k{n}", {"past": [*past, [n, 0]], "evidence": [0.1] * 300, "so_far": changed * n}]
                for n in range(3)
            ],
            "at": 5.0,
        }

    before, parts = divided(state(0))
    after, other = divided(state(1))
    assert len(before) < PART_BYTES
    new = {name: data for name, data in other.items() if name not in parts}
    assert len(parts) > 1
    assert sum(map(len, new.values())) < PART_BYTES
    assert after != before or new


@pytest.mark.parametrize("breaks", ["missing", "cut", "document"])
def test_what_is_damaged_is_refused(breaks: str) -> None:
    document, parts = divided({"past": [[1, 2.5]] * 500})
    name = next(iter(parts))
    if breaks == "missing":
        parts = {}
    elif breaks == "cut":
        parts[name] = parts[name][:-5]
    else:
        document = document[:-1]
    with pytest.raises(ValueError, match="stored state"):
        joined(document, parts)


def test_parts_within_themselves_end() -> None:
    name = "0" * 32
    with pytest.raises(ValueError, match="levels"):
        joined(msgspec.json.encode({"a": {"$part": name}}), {name: b'{"$part": "%032d"}' % 0})


# In the store.


class Counting:
    """A store that counts the bytes of what is kept; it dies with the write if it is to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.written = 0
        self.dies = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit_documents(
        self,
        puts: Mapping[tuple[str, str], bytes],
        deletes: Collection[tuple[str, str]] = (),
        *,
        minutes: Sequence[MinuteRow] = (),
    ) -> None:
        self.written += sum(map(len, puts.values()))
        self._store.commit_documents(puts, deletes, minutes=minutes)
        if self.dies and any(kind == "monitor" for kind, _ in puts):
            raise KeyboardInterrupt


class Place:
    """A store, a clock, and a watching with a monitor of costs that has learnt of keys."""

    def __init__(self, store: Store, keys: int) -> None:
        self.store = Counting(store)
        self.now = START + WEEKS_H * 3_600.0
        self.learnt = CostMonitor("bank", "sha256:a")
        for hour in range(WEEKS_H):
            for key in range(keys):
                at = START + hour * 3_600.0 + key
                tokens = 60_000 + int(at) % 777
                asked = made(key=f"key{key}", started_at=at, prompt_tokens=tokens)
                self.learnt.see(seen(asked))
        self.monitors: list[CostMonitor] = []
        self.platform = Platform()
        self.platform.served = [Served("bank", "sha256:a", Declared())]
        self.asked: list[RequestRow] = []
        store.open_spool("boot")

    async def begin(self, *, learnt: bool = False) -> Watching:
        def build(_served: Any, _release: str) -> Sequence[Monitor]:
            self.monitors.append(CostMonitor("bank", "sha256:a"))
            if learnt:
                self.monitors[-1].restore(self.learnt.state())
            return [self.monitors[-1]]

        watching = Watching(self.store, self.platform, build, lambda: self.now, Outbox())  # type: ignore[arg-type]
        await watching.load()
        return watching

    def ask(self, keys: Sequence[str]) -> None:
        """A request by each of these, recorded."""
        rows = []
        for key in keys:
            number = len(self.asked) + len(rows) + 1
            row = RequestRow(
                f"r{number:06d}", "bank", "sha256:a", "champion", "bank-1", key, "u", 0.0,
                "", 0, "chat", False, 200, "", self.now + number * 1e-6, 5.0, -1.0, 50.0,
                10, 5, 1,
            )  # fmt: skip
            rows.append(row)
        self.now += 40.0
        self.asked += rows
        cursor = SpoolCursor(offset=len(self.asked), complete_until=self.now)
        self.store.ingest("boot", rows, [], cursor)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


async def test_a_request_of_one_key_writes_what_is_known_of_that_one(store: Store) -> None:
    place = Place(store, 12)
    watching = await place.begin(learnt=True)
    place.ask(["key1"])
    await watching.look()
    whole = len(msgspec.json.encode(place.monitors[-1].state()))
    assert whole > 50_000
    # In a new hour each key is brought up to date once, two with each request.
    for _ in range(8):
        place.ask(["key1"])
        await watching.look()
    place.store.written = 0
    place.ask(["key1"])
    await watching.look()
    assert 0 < place.store.written < whole / 5
    parts = store.documents("monitor_part")
    assert sum(map(len, parts.values())) < 1.2 * whole  # nothing of what was before is left
    await watching.close()


@pytest.mark.parametrize("ends", ["closed", "killed", "dies with its write"])
async def test_it_goes_on_exactly_however_it_ended(store: Store, ends: str) -> None:
    place = Place(store, 3)
    watching = await place.begin(learnt=True)
    place.ask(["key1", "key2"])
    await watching.look()
    place.ask(["key1", "new"])
    if ends == "dies with its write":
        place.store.dies = True
        with pytest.raises(KeyboardInterrupt):
            await watching.look()
        place.store.dies = False
    else:
        await watching.look()
    if ends == "closed":
        await watching.close()
    again = await place.begin()
    place.ask(["key2", "new"])
    await again.look()
    await again.close()
    last = await place.begin()
    await last.look()
    for row in place.asked:
        place.learnt.see(Seen(row, 0.0, 0.0, failed=False))
    assert _as_json(place.monitors[-1]) == _as_json(place.learnt)
    await last.close()


def _as_json(monitor: Monitor) -> Any:
    return msgspec.json.decode(msgspec.json.encode(monitor.state()))
