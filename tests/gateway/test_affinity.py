"""Prefix-aware balancing: the same beginning goes to the same replica, within bounds."""

from __future__ import annotations

import asyncio
import json
import math
import random
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from gateway_rig import A, Engine, Rig, answers, route, snapshot, until
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway.replicas.affinity import (
    BLOCK_BYTES,
    BOUND,
    REMEMBERED_MAX,
    Latest,
    Prefix,
    PrefixBalancer,
    prefix_of,
)
from fairlead.wire.snapshot import ReleaseRoute, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
SYSTEM = "You answer the customers of a bank. " * 40


class Fake(msgspec.Struct):
    id: str
    in_flight: int = 0
    slots: int = 4

    def is_usable(self, now: float) -> bool:
        return True


def chat(*turns: str, system: str = SYSTEM, **more: Any) -> bytes:
    roles = ["user", "assistant"]
    messages = [{"role": "system", "content": system}]
    messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return json.dumps({"model": "bank", "messages": messages, **more}).encode()


def prefix(*turns: str, **more: Any) -> Prefix:
    found = prefix_of(chat(*turns, **more))
    assert found is not None
    return found


def send(balancer: PrefixBalancer, pool: list[Fake], asked: Prefix, turn: int = 0) -> Fake:
    chosen = balancer.pick(pool, asked, turn)
    assert chosen is not None
    balancer.note(chosen.id, asked)
    return chosen


def test_a_longer_conversation_begins_with_the_beginnings_of_the_shorter_one() -> None:
    one, two = prefix("a" * 600), prefix("a" * 600, "b" * 600, "c" * 600)
    assert one.opening == two.opening
    assert 0 < len(one.blocks) < len(two.blocks)
    assert two.blocks[: len(one.blocks)] == one.blocks


def test_another_system_prompt_first_question_or_tool_is_another_opening() -> None:
    openings = {
        prefix("a").opening,
        prefix("b").opening,
        prefix("a", system="Other.").opening,
        prefix("a", tools=[{"type": "function"}]).opening,
    }
    assert len(openings) == 4
    assert prefix("a", temperature=1).opening == prefix("a").opening


def test_completions_have_beginnings_and_embeddings_have_none() -> None:
    long = {"model": "m", "prompt": "x" * BLOCK_BYTES * 3}
    found = prefix_of(json.dumps(long).encode())
    assert found is not None
    assert len(found.blocks) == 3
    assert prefix_of(b'{"model": "m", "input": "x"}') is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"messages": 1}', b'{"messages": [1]}', b'{"messages": [{"role": 3}]}',
     b'{"messages": null}', b'{"messages": [{"role": "\xff"}]}', b"\xff"],
)  # fmt: skip
def test_what_has_no_prompt_has_no_beginnings(body: bytes) -> None:
    assert prefix_of(body) is None


@settings(max_examples=60)
@given(st.binary(max_size=200), st.recursive(st.none() | st.text(), st.lists, max_leaves=5))
def test_any_body_is_read_without_an_error(body: bytes, messages: Any) -> None:
    prefix_of(body)
    prefix_of(json.dumps({"messages": messages, "prompt": messages}).encode())


def test_a_conversation_stays_where_it_began() -> None:
    balancer, pool = PrefixBalancer(), [Fake(f"r{n}") for n in range(3)]
    homes = {name: send(balancer, pool, prefix(name)) for name in ("a", "b", "c", "d", "e", "f")}
    for turn in range(4):
        for name, home in homes.items():
            longer = prefix(name, *(["x" * 300] * 2 * (turn + 1)))
            assert send(balancer, pool, longer, turn) is home


def test_conversations_under_one_system_prompt_are_spread_evenly() -> None:
    balancer, pool = PrefixBalancer(), [Fake(f"r{n}") for n in range(3)]
    spread = Counter(send(balancer, pool, prefix(f"question {n}")).id for n in range(90))
    assert max(spread.values()) <= math.ceil(BOUND * 91 / 3)


def test_each_of_many_system_prompts_stays_on_few_replicas() -> None:
    balancer, pool = PrefixBalancer(), [Fake(f"r{n}") for n in range(3)]
    where: dict[int, set[str]] = {}
    for n in range(180):
        tenant = n % 18
        asked = prefix(f"question {n}", system=f"Tenant {tenant}. " * 60)
        where.setdefault(tenant, set()).add(send(balancer, pool, asked).id)
    assert sum(len(replicas) for replicas in where.values()) <= 2 * 18
    assert set.union(*where.values()) == {"r0", "r1", "r2"}


def test_workers_that_know_nothing_of_each_other_choose_the_same_replica() -> None:
    pool = [Fake(f"r{n}") for n in range(3)]
    chosen = []
    for n in range(300):
        asked = prefix("question", system=f"Tenant {n}. " * 60)
        (one,) = {send(PrefixBalancer(), pool, asked).id for _ in range(2)}
        chosen.append(one)
    assert all(70 <= count <= 130 for count in Counter(chosen).values())  # 100, sd 8


def test_a_restarted_set_of_replicas_changes_only_what_was_on_the_one_that_is_gone() -> None:
    pool = [Fake(f"r{n}") for n in range(4)]
    for n in range(100):
        asked = prefix("question", system=f"Tenant {n}. " * 60)
        before = send(PrefixBalancer(), pool, asked)
        after = send(PrefixBalancer(), pool[:3], asked)
        assert before is pool[3] or after is before


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=5),
    st.integers(0, 30),
)
def test_a_choice_is_within_its_bound_and_none_only_when_all_are_full(
    loads: list[tuple[int, int]], asked: int
) -> None:
    pool = [Fake(f"r{n}", min(used, slots), slots) for n, (used, slots) in enumerate(loads)]
    balancer = PrefixBalancer()
    for n in range(asked):
        balancer.note("r0", prefix(f"question {n}"))
    chosen = balancer.pick(pool, prefix("question 0"), 0)
    if chosen is None:
        assert all(f.in_flight >= f.slots for f in pool)
        return
    total, slots = sum(f.in_flight for f in pool) + 1, sum(f.slots for f in pool)
    assert chosen.in_flight < chosen.slots
    assert chosen.in_flight < math.ceil(BOUND * total * chosen.slots / slots)


def test_of_what_was_put_the_last_half_is_known_and_no_more_than_was_said() -> None:
    table: Latest[str] = Latest(50)
    for key in range(500):
        table.put(key, f"r{key % 2}")
        table.put(3, "often")
        assert all(table.get(late) == f"r{late % 2}" for late in range(max(4, key - 23), key + 1))
        assert sum(table.get(any_) is not None for any_ in range(500)) <= 50
    assert table.get(3) == "often"
    assert table.get(100) is None


def test_what_is_remembered_takes_bounded_memory() -> None:
    """Openings are full after half of the first ones, blocks after a sixth."""
    balancer, chance = PrefixBalancer(), random.Random(1)

    def send_many() -> int:
        for n in range(2 * REMEMBERED_MAX):
            blocks = tuple(chance.getrandbits(32) for _ in range(3))
            balancer.note(f"r{n % 2}", Prefix(chance.getrandbits(32), blocks[0], blocks))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = send_many()
        assert before < 15_000_000
        assert abs(send_many() - before) < 1_000_000
    finally:
        tracemalloc.stop()


def balanced(route_: ReleaseRoute, balance: str) -> Snapshot:
    base = snapshot(route_)
    service = msgspec.structs.replace(base.services["bank"], balance=balance)
    return msgspec.structs.replace(base, services={"bank": service})


@pytest.mark.parametrize("balance", ["prefix", "least_loaded"])
async def test_a_service_is_balanced_as_its_snapshot_says(
    engine: StartEngine, serve: Serve, balance: str
) -> None:
    engines = [await engine(answers(str(n))) for n in range(3)]
    rig = await serve(balanced(route(A, *engines), balance))
    seen: dict[str, set[bytes]] = {}
    async with rig.client() as client:
        for turn in range(6):
            for name in "abcdefgh":
                body = chat(name, *(["x" * 300] * 2 * turn))
                answer = await client.post(PATH, content=body)
                seen.setdefault(name, set()).add(answer.content)
    together = all(len(answers_) == 1 for answers_ in seen.values())
    assert together == (balance == "prefix")
    assert all(e.asked for e in engines)


async def test_a_full_replica_is_not_waited_for_and_a_dead_one_not_asked_again(
    engine: StartEngine, serve: Serve
) -> None:
    release = asyncio.Event()
    engines = [await engine(answers(after=release)) for _ in range(2)]
    rig = await serve(balanced(route(A, *engines, slots=2), "prefix"))
    body = chat("the same for all")
    async with rig.client() as client:
        asking = [asyncio.ensure_future(client.post(PATH, content=body)) for _ in range(4)]
        await until(lambda: sum(len(e.asked) for e in engines) == 4)
        release.set()
        assert {(await one).status_code for one in asking} == {200}
        assert [len(e.asked) for e in engines] == [2, 2]
        await engines[0].kill()
        for _ in range(6):
            assert (await client.post(PATH, content=body)).status_code == 200
