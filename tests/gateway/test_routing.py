"""Assignment and the choice of a replica, without any I/O."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from gateway_rig import A, B, route, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway.clock import Clock
from fairlead.gateway.replicas.addressing import parse_base_url
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.routing import (
    assign,
    choose,
    is_canary_unit,
    least_loaded,
    unit_of,
)
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.snapshot import Endpoint, Finishing

UNITS = [unit_of("k", f"s{n}".encode(), None) for n in range(20_000)]


class Fake(msgspec.Struct, frozen=True):
    name: int
    in_flight: int
    slots: int
    usable: bool = True

    def is_usable(self, now: float) -> bool:
        return self.usable


fakes = st.builds(Fake, st.integers(0, 10**9), st.integers(0, 5), st.integers(1, 4), st.booleans())
pools = st.lists(fakes, max_size=5, unique_by=lambda f: f.name)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_units_on_the_canary_is_near_rho(share: float) -> None:
    count = sum(is_canary_unit("salt", unit, share) for unit in UNITS)
    sd = (len(UNITS) * share * (1 - share)) ** 0.5
    assert abs(count - share * len(UNITS)) < 4.5 * sd


def test_no_unit_at_share_0_and_every_unit_at_share_1() -> None:
    assert not any(is_canary_unit("salt", unit, 0.0) for unit in UNITS)
    assert all(is_canary_unit("salt", unit, 1.0) for unit in UNITS)


def test_the_hash_is_the_documented_one() -> None:
    digest = hashlib.blake2b(b"salt\0unit", digest_size=8).digest()
    u = int.from_bytes(digest, "big") / 2**64
    assert is_canary_unit("salt", "unit", u * 1.001)
    assert not is_canary_unit("salt", "unit", u * 0.999)


def test_a_growing_share_under_one_salt_only_adds_units() -> None:
    small = {u for u in UNITS if is_canary_unit("salt", u, 0.1)}
    large = {u for u in UNITS if is_canary_unit("salt", u, 0.3)}
    assert small < large


def test_a_new_salt_assigns_anew() -> None:
    one = [is_canary_unit("p1", u, 0.5) for u in UNITS]
    two = [is_canary_unit("p2", u, 0.5) for u in UNITS]
    same = sum(a == b for a, b in zip(one, two, strict=True))
    assert abs(same - len(UNITS) / 2) < 4.5 * (len(UNITS) / 4) ** 0.5


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20))
def test_a_unit_is_16_hex_digits_and_stays(key: str, session: bytes, user: str) -> None:
    unit = unit_of(key, session, user)
    assert len(unit) == 16
    assert int(unit, 16) >= 0
    assert unit == unit_of(key, session, user)
    if session:
        assert unit == unit_of(key, session, None)


def test_outside_a_rollout_everything_is_champion_with_rho_0() -> None:
    service = snapshot(route(A)).services["bank"]
    assignment = assign(service, UNITS[0], canary_is_usable=True)
    assert assignment is not None
    assert (assignment.arm, assignment.release, assignment.rho) == ("champion", A, 0.0)
    assert (assignment.rollout, assignment.phase) == ("", 0)


@given(st.sampled_from(UNITS), st.floats(0, 1))
def test_in_a_rollout_every_record_carries_the_split(unit: str, share: float) -> None:
    service = snapshot(route(A), route(B), share=share).services["bank"]
    assignment = assign(service, unit, canary_is_usable=True)
    assert assignment is not None
    assert (assignment.release == B) == (assignment.arm == "canary")
    assert (assignment.rho, assignment.rollout, assignment.phase) == (share, "ro-1", 2)


def test_without_a_champion_there_is_no_assignment() -> None:
    assert assign(snapshot(None).services["bank"], UNITS[0], canary_is_usable=False) is None


@given(pools, st.integers(0, 100))
def test_the_least_loaded_has_room_and_nobody_has_more(pool: list[Fake], turn: int) -> None:
    chosen = least_loaded(pool, turn)
    free = [f for f in pool if f.in_flight < f.slots]
    if chosen is None:
        assert not free
    else:
        assert chosen in free
        assert all(chosen.in_flight / chosen.slots <= f.in_flight / f.slots for f in free)


def test_equal_ones_take_turns() -> None:
    pool = [Fake(n, 0, 4) for n in range(3)]
    assert {least_loaded(pool, turn) for turn in range(3)} == set(pool)


@settings(max_examples=60)
@given(pools, pools, st.data())
def test_a_choice_is_usable_has_room_and_keeps_the_order_of_preference(
    assigned: list[Fake], fallback: list[Fake], data: st.DataObject
) -> None:
    everyone = assigned + fallback
    tried = data.draw(st.sets(st.sampled_from(everyone))) if everyone else set()
    chosen = choose(assigned, fallback, tried, 0.0, 0)
    fresh = [f for f in assigned if f.usable and f not in tried]
    if chosen is not None:
        assert chosen.usable
        assert chosen.in_flight < chosen.slots
    if fresh:
        assert chosen is None or chosen in fresh
    elif chosen is not None and chosen in tried:
        assert not [f for f in fallback if f.usable and f not in tried]
    if chosen is None:
        usable = [f for f in everyone if f.usable]
        assert not usable or any(f.in_flight >= f.slots for f in usable)


def test_sessions_that_finish_stay_on_their_release_with_certainty() -> None:
    """Those alone: others, users and keys are assigned as ever; a dead release keeps nobody."""
    stays = unit_of("k1", b"one", None)
    made = snapshot(
        route(A, "http://127.0.0.1:1"), route(B, "http://127.0.0.1:2"), share=0.0, version=1
    ).services["bank"]
    made = msgspec.structs.replace(
        made, canary=None, rollout="ro-1", phase=3,
        finishing=Finishing(B, (stays, unit_of("k1", None, "one"))),
    )  # fmt: skip
    alive = _answering()
    live = LiveService(made, {A: (_answering(),), B: (alive,)})
    found = live.assign("k1", b"one", None, 0.0)
    assert found is not None
    assert (found.arm, found.release, found.unit) == ("canary", B, stays)
    assert (found.rho, found.rollout, found.phase) == (1.0, "ro-1", 3)
    for session, user in ((b"two", None), (None, "one"), (None, None)):
        other = live.assign("k1", session, user, 0.0)
        assert other is not None
        assert (other.arm, other.release, other.rho) == ("champion", A, 0.0)
    alive.note_failure()
    moved = live.assign("k1", b"one", None, 0.0)
    assert moved is not None
    assert moved.release == A


def test_a_session_that_finishes_on_the_one_held_back_is_the_champion_s() -> None:
    stays = unit_of("k1", b"one", None)
    made = snapshot(
        route(A, "http://127.0.0.1:1"), route(B, "http://127.0.0.1:2"), share=0.95
    ).services["bank"]
    made = msgspec.structs.replace(made, finishing=Finishing(A, (stays,)))
    live = LiveService(made, {A: (_answering(),), B: (_answering(),)})
    found = live.assign("k1", b"one", None, 0.0)
    assert found is not None
    assert (found.arm, found.release, found.unit) == ("champion", A, stays)
    assert (found.rho, found.rollout, found.phase) == (0.0, "ro-1", 2)


def _answering() -> Replica:
    """One that answers, until it has failed."""
    url = "http://127.0.0.1:1"
    clock = Clock(monotonic=lambda: 0.0, wall=lambda: 0.0)
    return Replica(Endpoint(replica="r", base_url=url), parse_base_url(url), clock)
