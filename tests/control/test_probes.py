"""Champions' providers are probed round by round: kept exactly, told once, and never silent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from control.hook_server import HookServer
from control.simulated_world import DIRECT, World
from fairlead.control.outside.ask import Completion, ReplicaClient
from fairlead.control.probing.given import given_of
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.probing.probes import AT_ONCE, Probes
from fairlead.control.shipping.spec import ProbeSpec, ServiceSpec, check_spec
from fairlead.domain.errors import Conflict, InvalidInput, NotFound, StorageFailed, Unavailable
from fairlead.domain.quota import Price
from fairlead.domain.release import Engine, Release, RemoteModel
from fairlead.evaluation.cases import Suite, make_case
from fairlead.evaluation.scorers import Exact
from fairlead.probing.model import ProbeRule, Probing
from fairlead.registry import Registry
from fairlead.rollout.plan import Plan
from fairlead.store import open_store
from fairlead.store.interface import Store

CASES = tuple(make_case(f"say {number}", f"{number}") for number in range(6))
RELEASE = "sha256:" + "ab" * 32
SPEC = ServiceSpec("bank", RELEASE, "a", Plan())


class Place:
    """A store, a registry with the probes, a provider, and a clock that the test moves."""

    def __init__(self, store: Store, registry: Registry, provider: AnsweringReplica) -> None:
        self.now = 1_000.0
        self.store = store
        self.registry = registry
        self.provider = provider
        suite = registry.put_blob(Suite(CASES).to_bytes(), "application/json")
        self.rule = ProbeRule(suite, cases=6, interval_s=100.0, reference_rounds=8)
        self.scorer: Exact | None = Exact()
        self.price: Price | None = None
        self.urls = [provider.url]
        self.probes = self.made(store)

    def made(self, store: Any) -> Probes:
        release = Release(RemoteModel("http://x/v1", "m"), Engine("remote"))

        def client(digest: str, timeout_s: float) -> ReplicaClient:
            assert (digest, timeout_s) == (RELEASE, self.rule.timeout_s)
            return ReplicaClient(release, lambda: self.urls, timeout_s=timeout_s)

        return Probes(store, self.registry, client, lambda: self.now)

    @property
    def spec(self) -> ServiceSpec:
        probes = ProbeSpec(self.rule, self.scorer)
        return msgspec.structs.replace(SPEC, probes=probes, price=self.price, fallbacks=("other",))

    async def turn(self) -> ProbesView:
        """Begin what is due, and wait for its end."""
        await self.probes.advance([self.spec])
        task = self.probes._watches["bank", RELEASE].errand.task
        if task is not None:
            await asyncio.wait([task])
        view = self.probes.view("bank")
        assert view is not None
        return view

    async def rounds(self, count: int) -> ProbesView:
        view = await self.turn()
        for _ in range(count - 1):
            self.now = max(self.now, view.due_at)
            view = await self.turn()
            if view.change is not None:
                break
        return view

    def kinds(self) -> list[str]:
        return [event.kind for event in self.store.events("bank", limit=1_000)]

    def stored(self) -> Probing:
        [row] = self.store.probes()
        return msgspec.json.decode(row.document, type=Probing)


@pytest.fixture
async def place(tmp_path: Path, replica: Callable[..., AnsweringReplica]) -> AsyncIterator[Place]:
    store = open_store(f"sqlite:///{tmp_path}/fairlead.db")
    made = Place(store, Registry(tmp_path / "registry"), replica())
    yield made
    await made.probes.close()
    store.close()


async def test_rounds_are_asked_on_schedule_with_the_pinned_settings(place: Place) -> None:
    view = await place.turn()
    assert (view.state, view.rounds, view.due_at) == ("reference", 1, 1_100.0)
    assert sorted(place.provider.asked.items()) == [(case.input, 1) for case in CASES]
    for body, headers in zip(place.provider.bodies, place.provider.headers, strict=True):
        assert (body["temperature"], body["seed"], body["model"]) == (0.0, 1, "m")
        assert not [name for name in headers if "fairlead" in name.lower()], "it is told nothing"
    place.now = 1_099.0
    assert (await place.turn()).rounds == 1
    view = await place.rounds(8)
    assert (view.state, view.rounds, view.sent_in_all) == ("watching", 8, 48)
    assert place.kinds() == ["probes_begun", "probes_reference"]


async def test_a_silent_change_is_an_unrequested_release_told_once_by_everything(
    place: Place,
) -> None:
    hook = HookServer()
    try:
        hook.answers = [(503, "not now")]
        place.rule = msgspec.structs.replace(place.rule, webhooks=(hook.url,), on_change="fallback")
        await place.rounds(30)
        assert not place.probes.is_diverted("bank", RELEASE)
        place.provider.answer = lambda text: "something else"
        place.now += 100.0
        view = await place.rounds(12)
        assert view.change is not None
        assert view.change.round <= 37
        assert (view.state, view.is_diverted, view.trouble) == ("changed", True, "")
        assert view.change.differences[0].now == "something else"
        assert place.probes.is_diverted("bank", RELEASE)
        assert not place.probes.is_diverted("bank", "sha256:another")
        with pytest.raises(Conflict, match="no requests of the champion") as refused:
            place.probes.check_ship(SPEC)
        assert "fairlead probes accept bank" in (refused.value.hint or "")
        place.probes.check_ship(msgspec.structs.replace(SPEC, plan=Plan(steps=())))
        place.probes.check_ship(msgspec.structs.replace(SPEC, service="other"))
        asked = view.sent_in_all
        for _ in range(3):
            place.now += 100.0
            view = await place.turn()
        assert view.sent_in_all == asked, "nothing is asked of what has changed"
        assert place.kinds().count("unrequested_release") == 1
        assert [call["kind"] for call in hook.calls] == ["unrequested_release"] * 2
        assert len(set(hook.deliveries)) == 1
        assert hook.calls[0]["change"]["number"] == 1
        assert place.stored().is_told
    finally:
        hook.close()


async def test_a_release_is_not_shipped_where_there_is_nothing_to_compare_it_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    diverted = SimpleNamespace(is_diverted=True)
    monkeypatch.setattr(world.plane.probes, "view", {"bank": diverted}.get)
    with pytest.raises(Conflict, match="no requests of the champion"):
        await world.ship("b")
    rollout = await world.ship("b", plan=DIRECT)
    monkeypatch.undo()
    assert (await world.finish(rollout)).outcome == "promoted"


async def test_an_accepted_change_serves_again_and_is_the_reference(place: Place) -> None:
    place.rule = msgspec.structs.replace(place.rule, on_change="fallback")
    await place.rounds(30)
    with pytest.raises(Conflict, match="nothing to accept"):
        await place.probes.command("bank", "accept")
    place.provider.answer = lambda text: "something else"
    place.now += 100.0
    await place.rounds(12)
    with pytest.raises(Conflict, match="has changed"):
        await place.probes.command("bank", "run")
    view = await place.probes.command("bank", "accept")
    assert (view.state, view.rounds, view.change, len(view.accepted)) == ("reference", 0, None, 1)
    assert not place.probes.is_diverted("bank", RELEASE)
    place.probes.check_ship(SPEC)
    assert (await place.rounds(20)).change is None
    with pytest.raises(InvalidInput, match="accept, run"):
        await place.probes.command("bank", "stop")
    with pytest.raises(NotFound, match="no release of 'shop' is probed"):
        await place.probes.command("shop", "run")


async def test_a_round_can_be_run_at_once(place: Place) -> None:
    await place.turn()
    await place.probes.command("bank", "run")
    assert (await place.turn()).rounds == 2


async def test_a_provider_that_is_down_is_no_change_and_seen_to_be_down(place: Place) -> None:
    await place.rounds(20)
    place.provider.status, place.provider.raw = 503, b'{"error": "overloaded"}'
    place.now += 100.0
    for _ in range(30):
        view = await place.turn()
        place.now += 60.0
    assert (view.state, view.rounds) == ("failing", 20)
    assert "answered 503: overloaded" in view.failure
    assert view.failing_since is not None
    assert view.change is None
    place.provider.raw, place.provider.status = None, 200
    view = await place.turn()
    assert (view.state, view.rounds) == ("watching", 21)
    place.urls = []
    place.now += 100.0
    assert (await place.turn()).failure == "no replica of the release is ready"
    assert place.kinds()[2:] == ["probes_failing", "probes_answered", "probes_failing"]


async def test_a_model_that_comes_to_refuse_has_changed(place: Place) -> None:
    await place.rounds(30)
    place.provider.status, place.provider.raw = 400, b'{"error": "content policy"}'
    place.now += 100.0
    view = await place.rounds(12)
    assert view.change is not None
    assert view.change.differences[0].now == "[refused with status 400]"


async def test_probes_stop_for_the_day_when_they_have_cost_enough(place: Place) -> None:
    place.price = Price(1_000.0, 2_000.0)
    place.rule = msgspec.structs.replace(place.rule, usd_per_day=0.05)
    place.provider.raw = (
        b'{"choices": [{"message": {"content": "7"}}], "model": "m-7", "system_fingerprint": "fp",'
        b' "usage": {"prompt_tokens": 8, "completion_tokens": 1}}'
    )
    view = await place.turn()
    assert (view.state, view.answered) == ("held", 0)
    assert view.usd_today == pytest.approx(0.06)
    assert (view.model, view.fingerprint) == ("m-7", "fp")
    place.now += 200.0
    assert (await place.turn()).sent_today == 6
    place.now += 86_400.0
    assert (await place.turn()).sent_in_all == 12


async def test_other_probes_and_damaged_documents_begin_anew_and_say_so(place: Place) -> None:
    await place.rounds(5)
    place.rule = msgspec.structs.replace(place.rule, seed=7)
    assert (await place.turn()).rounds == 1
    [row] = place.store.probes()
    await place.probes.close()
    place.store.commit_probes(
        msgspec.structs.replace(row, document=b'{"service": 1}'), expected_version=row.version
    )
    place.probes = place.made(place.store)
    await place.probes.load()
    place.now += 100.0
    assert (await place.turn()).rounds == 1
    said = [event.message for event in place.store.events("bank", limit=100)]
    assert [text for text in said if "anew" in text] == [
        "begun anew: other probes are asked",
        "begun anew: what was kept of them cannot be read",
    ]


class Killed(Exception):
    """Control is no more."""


class MortalStore:
    """Kills control before or after a write of its probes, by a die."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self.killed = 0

    def probes(self) -> Any:
        return self._store.probes()

    def commit_probes(self, *arguments: Any, **named: Any) -> None:
        at = self._dice.random()
        if at < 0.15:
            self.killed += 1
            raise Killed
        self._store.commit_probes(*arguments, **named)
        if at < 0.3:
            self.killed += 1
            raise Killed


def wobbly(text: str) -> str:
    """Right, but for one question, by a number that the test counts up."""
    return text.rpartition("say ")[2]


@pytest.mark.parametrize("seed", range(2))
async def test_kills_at_any_write_lose_and_repeat_no_evidence(place: Place, seed: int) -> None:
    """The same course as without: rounds, reference, evidence, the change, and what was told."""

    async def course(kills: bool) -> tuple[Probing, list[tuple[str, str]], int]:
        place.now = 1_000.0
        store: Any = MortalStore(place.store, random.Random(seed)) if kills else place.store
        place.probes = place.made(store)
        await place.probes.load()
        for number in range(26):
            place.provider.answer = (lambda text: "else") if number >= 18 else wobbly
            done = place.stored().rounds if number and place.store.probes() else 0
            while not place.store.probes() or (
                place.stored().rounds == done and place.stored().change is None
            ):
                try:
                    await place.probes.advance([place.spec])
                    task = place.probes._watches["bank", RELEASE].errand.task
                    if task is not None:
                        await asyncio.wait([task])
                        if isinstance(task.exception(), Killed):
                            raise Killed
                except Killed:
                    await place.probes.close()
                    place.probes = place.made(store)
                    await place.probes.load()
            place.now = 1_000.0 + 100.0 * (number + 1)
        kept = place.stored()
        events = [(e.kind, e.message) for e in place.store.events("bank", limit=1_000)]
        await place.probes.close()
        return kept, events, getattr(store, "killed", 0)

    expected, told, _ = await course(kills=False)
    assert expected.change is not None
    before = len(told)
    [row] = place.store.probes()
    # From the beginning once more, in the same store.
    fresh = msgspec.json.encode(
        msgspec.structs.replace(
            expected, rounds=0, reference={}, tests={}, change=None, answers={}, due_at=1_000.0,
            begun_at=1_000.0, sent=0, sent_in_all=0, day=0, notes=(), ended=(),
        )
    )  # fmt: skip
    place.store.commit_probes(
        msgspec.structs.replace(row, document=fresh), expected_version=row.version
    )
    found, again, killed = await course(kills=True)
    assert killed > 8
    assert found == expected
    assert again[before:] == told[1:], "all but that they were begun"


async def test_a_store_that_refuses_is_seen_and_tried_again_without_haste(place: Place) -> None:
    await place.turn()
    place.now += 100.0

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise StorageFailed("keeping probes of bank: disk full")

    kept = place.store.commit_probes
    place.store.commit_probes = refuse  # type: ignore[method-assign]
    await place.turn()
    asked = place.provider.asked.total()
    view = await place.turn()
    assert view.trouble == "keeping probes of bank: disk full"
    assert place.provider.asked.total() == asked == 6 + AT_ONCE
    place.store.commit_probes = kept  # type: ignore[method-assign]
    place.now += 60.0
    assert (await place.turn()).rounds == 2
    place.now += 1.0
    assert (await place.turn()).trouble == ""


async def test_a_service_that_is_not_probed_any_more_is_let_go_of(place: Place) -> None:
    await place.turn()
    await place.probes.advance([SPEC])
    assert place.probes.views() == []


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503, 302])
def test_what_is_no_answer_of_the_model_is_none(place: Place, status: int) -> None:
    probes = ProbeSpec(place.rule)
    with pytest.raises(Unavailable):
        given_of(Completion("refused", 1.0, status=status), CASES[0], probes, None)


@pytest.mark.parametrize(
    "wrong", [{"on_change": "fallback"}, {"usd_per_day": 1.0}, {"suite": "sha256:x"}]
)
def test_a_spec_whose_probes_make_no_sense_is_refused(place: Place, wrong: dict[str, Any]) -> None:
    rule = msgspec.structs.replace(place.rule, **wrong)
    with pytest.raises(InvalidInput, match="probes"):
        check_spec(msgspec.structs.replace(SPEC, probes=ProbeSpec(rule)))
