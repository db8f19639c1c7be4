"""Champions are asked pairs on a schedule: a biased one is found, an honest one is not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from fairlead.control.bias.asking import said_of
from fairlead.control.bias.bias_probes import RELEASES_MAX, BiasProbes
from fairlead.control.bias.guarded import blocks_answer, blocks_prompt
from fairlead.control.bias.telling import BiasView
from fairlead.control.outside.ask import Completion, ReplicaClient
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.domain.errors import InvalidInput, NotFound, StorageFailed, Unavailable
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.quota import Price
from fairlead.domain.release import Engine, Release, RemoteModel, short
from fairlead.monitoring.watchers import blind
from fairlead.probing.bias_model import Attribute, BiasSpec, Detail, Segment, Template
from fairlead.probing.bias_pairs import plan_of
from fairlead.probing.bias_sets import BUILTIN
from fairlead.rollout.plan import Plan

RELEASE = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
SPEC = ServiceSpec("bank", RELEASE, "a", Plan())
NAMES = BiasSpec(builtin=("name",), outcomes=("refusal",), interval_s=100.0, pairs=50)


class Documents:
    """Documents in memory; `refuses` makes a write fail before it, `dies` after it."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self.refuses = self.dies = False

    def documents(self, kind: str) -> dict[str, bytes]:
        return {key: data for (of, key), data in self.kept.items() if of == kind}

    def commit_documents(
        self, puts: Mapping[tuple[str, str], bytes], deletes: Collection[tuple[str, str]] = ()
    ) -> None:
        if self.refuses:
            raise StorageFailed("keeping pairs of bank: disk full")
        self.kept |= puts
        for each in deletes:
            del self.kept[each]
        if self.dies:
            raise RuntimeError("control is no more")


class Place:
    """Documents, a replica, and a clock that the test moves."""

    def __init__(self, replica: AnsweringReplica) -> None:
        self.now = 1_000.0
        self.store = Documents()
        self.replica = replica
        self.urls = [replica.url]
        self.bias: BiasSpec | None = NAMES
        self.release = RELEASE
        self.price: Price | None = None
        self.guardrails: tuple[Guardrail, ...] = ()
        self.tight: tuple[str, ...] = ()
        self.probes = self.made()

    def made(self) -> BiasProbes:
        def client(digest: str, timeout_s: float) -> ReplicaClient:
            assert (digest, timeout_s) == (self.release, 60.0)
            release = Release(
                RemoteModel("http://x/v1", "m"), Engine("remote"), guardrails=self.guardrails
            )
            return ReplicaClient(release, lambda: self.urls, timeout_s=timeout_s)

        return BiasProbes(self.store, client, lambda: self.now, lambda _service: self.tight)

    @property
    def spec(self) -> ServiceSpec:
        return msgspec.structs.replace(SPEC, bias=self.bias, release=self.release, price=self.price)

    async def turn(self) -> BiasView:
        """Begin what is due, and wait for its end."""
        await self.probes.advance([self.spec])
        task = self.probes._watches["bank"].errand.task
        if task is not None:
            await asyncio.wait([task])
        [view] = self.probes.views()
        return view

    async def rounds(self, most: int) -> BiasView:
        view = await self.turn()
        for _ in range(most - 1):
            if view.state in ("gaps", "complete"):
                break
            self.now += 100.0
            view = await self.turn()
        return view

    async def again(self) -> None:
        """Control ends and begins anew."""
        await self.probes.close()
        self.probes = self.made()
        await self.probes.load()


@pytest.fixture
async def place(replica: Callable[..., AnsweringReplica]) -> AsyncIterator[Place]:
    made = Place(replica())
    made.replica.answer = lambda text: "Gladly. Here is what you can do."
    yield made
    await made.probes.close()


def share_of(text: str) -> float:
    """A number in [0, 1) that a text always has."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def refusing(rates: Callable[[str], float]) -> Callable[[str], str]:
    def answer(text: str) -> str:
        refuses = share_of(text) < rates(text)
        return "I'm sorry, but I can't help with that." if refuses else "Gladly."

    return answer


_OTHERS = BUILTIN["name"].groups[1].texts


def of_others(text: str) -> bool:
    return text.startswith(_OTHERS)


async def test_a_release_that_refuses_one_group_ten_points_more_is_found(place: Place) -> None:
    place.replica.answer = refusing(lambda text: 0.15 if of_others(text) else 0.05)
    view = await place.rounds(40)
    assert (view.state, view.failure, view.trouble) == ("gaps", "", "")
    assert view.pairs <= 2_000
    [condition] = place.probes.conditions(place.now)
    assert dict(condition.labels) == {
        "monitor": "bias", "service": "bank", "release": short(RELEASE), "attribute": "name",
        "group": "black_us", "outcome": "refusal",
    }  # fmt: skip
    figures = {figure.name: figure.value for figure in condition.evidence}
    assert figures["refusal of black_us"] == pytest.approx(15.0, abs=5.0)
    assert figures["refusal of white_us"] == pytest.approx(5.0, abs=4.0)
    assert figures["pairs"] == view.pairs
    assert any("can't help" in quote for quote in condition.quotes)
    assert ': "My name is' in condition.quotes[0]
    assert "My name" not in condition.summary
    assert place.probes.looked() == [("bias", "bank")]
    (gap,) = view.gaps[:1]
    assert (gap.attribute, gap.first, gap.group) == ("name", "white_us", "black_us")
    assert gap.gap == pytest.approx(gap.other_mean - gap.first_mean)
    assert 0.0 < gap.gap_least < gap.gap < gap.gap_most < 0.4
    assert gap.examples


async def test_answers_that_are_longer_have_a_gap_in_parts_of_their_length(place: Place) -> None:
    place.replica.answer = lambda text: "word " * (60 if of_others(text) else 40)
    place.bias = BiasSpec(builtin=("name",), outcomes=("length",), interval_s=100.0, pairs=200)
    view = await place.rounds(3)
    (gap,) = view.gaps
    assert gap.gap == pytest.approx(0.5, abs=0.02)
    assert 0.0 < gap.gap_least < gap.gap < gap.gap_most < 1.3


async def test_an_honest_release_is_asked_every_pair_once_and_not_reported(place: Place) -> None:
    place.replica.answer = refusing(lambda text: 0.1)
    days = tuple(f"day {number}" for number in range(30))
    place.bias = BiasSpec(
        attributes=(Attribute("name", BUILTIN["name"].groups[:2]),),
        templates=(Template("{name} May I come on {day}?"),),
        details=(Detail("day", days),),
        pairs=400,
        interval_s=100.0,
    )
    view = await place.rounds(3)
    assert (view.state, view.pairs) == ("complete", view.pairs_in_all)
    assert set(place.replica.asked.values()) == {1}
    assert place.replica.asked.total() == 2 * view.pairs
    assert place.probes.conditions(place.now) == []
    place.now += 1_000.0
    await place.turn()
    assert place.replica.asked.total() == 2 * view.pairs


async def test_pairs_are_asked_on_schedule_as_users_ask_and_marked_nowhere(place: Place) -> None:
    place.bias = BiasSpec(builtin=("age",), interval_s=100.0, pairs=3)
    view = await place.turn()
    assert (view.state, view.pairs, view.due_at, view.sent_in_all) == ("watching", 3, 1_100.0, 6)
    for body, headers in zip(place.replica.bodies, place.replica.headers, strict=True):
        assert (body["max_tokens"], body["model"]) == (200, "m")
        assert "temperature" not in body, "the release's own sampling"
        assert not [name for name in headers if "fairlead" in name.lower()]
    place.now = 1_099.0
    assert (await place.turn()).pairs == 3
    place.now = 1_100.0
    assert (await place.turn()).pairs == 6


async def test_it_goes_on_where_it_was_after_a_restart_and_asks_nothing_twice(
    place: Place,
) -> None:
    place.bias = msgspec.structs.replace(NAMES, pairs=4)
    await place.rounds(3)
    before = place.probes.views()
    await place.again()
    await place.probes.advance([place.spec])
    assert place.probes.views() == before
    place.now += 100.0
    assert (await place.turn()).pairs == 16
    assert set(place.replica.asked.values()) == {1}


async def test_a_write_whose_fate_is_unknown_counts_no_pair_twice(place: Place) -> None:
    place.bias = msgspec.structs.replace(NAMES, pairs=4)
    place.store.dies = True
    await place.turn()
    view = await place.turn()
    assert "a defect" in view.trouble
    place.store.dies = False
    await place.again()
    assert (await place.turn()).pairs == 4
    place.now += 100.0
    assert (await place.turn()).pairs == 8
    plan = plan_of(NAMES)
    first = [plan.contrasts["name/black_us"].pair(number) for number in range(8)]
    texts = {text for pair in first for text in (pair.first, pair.other)}
    assert set(place.replica.asked) == texts


async def test_a_store_that_refuses_is_shown_and_tried_again_without_haste(place: Place) -> None:
    place.store.refuses = True
    await place.turn()
    view = await place.turn()
    assert view.trouble == "keeping pairs of bank: disk full"
    asked = place.replica.asked.total()
    assert (await place.turn()).pairs == 0
    assert place.replica.asked.total() == asked == 4
    [report] = place.probes.reports(place.now)
    assert "disk full" in report.error
    place.store.refuses = False
    place.now += 60.0
    assert (await place.turn()).pairs == 50
    assert (await place.turn()).trouble == ""


async def test_a_release_that_does_not_answer_is_no_gap_and_seen_to_be_down(place: Place) -> None:
    await place.turn()
    place.replica.status, place.replica.raw = 503, b'{"error": "overloaded"}'
    place.now += 100.0
    view = await place.turn()
    assert (view.state, view.pairs, view.unanswered) == ("failing", 50, 0)
    assert "answered 503: overloaded" in view.failure
    [condition] = blind(place.probes.expected(), place.probes.reports(place.now), 0.0, place.now)
    assert dict(condition.labels)["fault"] == "failed"
    place.replica.raw, place.replica.status = None, 200
    assert (await place.turn()).pairs == 50, "without haste"
    place.now += 60.0
    view = await place.turn()
    assert (view.state, view.pairs) == ("watching", 100)
    assert blind(place.probes.expected(), place.probes.reports(place.now), 0.0, place.now) == ()


async def test_a_loop_that_has_stopped_is_a_blind_monitor(place: Place) -> None:
    await place.turn()
    reports = place.probes.reports(place.now + 600.0)
    [condition] = blind(place.probes.expected(), reports, 0.0, place.now + 600.0)
    assert dict(condition.labels)["fault"] == "silent"


async def test_that_the_engine_rejects_one_of_a_pair_is_a_refusal(place: Place) -> None:
    said = said_of(Completion("answered 400: policy", 1.0, status=400), frozenset(), "7", None)
    assert (said.refused, said.correct, said.chars) == (True, False, 0)


async def test_a_guardrail_that_blocks_the_prompts_of_one_group_is_found(place: Place) -> None:
    """What a user meets is compared: the model itself treats all alike."""
    place.guardrails = (Guardrail("names", "prompt", "block", phrases=_OTHERS),)
    view = await place.rounds(10)
    assert view.state == "gaps"
    assert not any(of_others(text) for text in place.replica.asked), "a blocked one is not sent"
    [condition] = place.probes.conditions(place.now)
    assert dict(condition.labels)["group"] == "black_us"
    assert any("[blocked by the guardrail names]" in quote for quote in condition.quotes)
    figures = {figure.name: figure.value for figure in condition.evidence}
    assert (figures["refusal of white_us"], figures["refusal of black_us"]) == (0.0, 100.0)


async def test_an_answer_that_a_guardrail_withholds_is_a_refusal(place: Place) -> None:
    place.guardrails = (Guardrail("wit", "answer", "block", phrases=("as a joke",)),)
    place.replica.answer = lambda text: "As a  joke: no." if of_others(text) else "Gladly."
    view = await place.rounds(10)
    assert view.state == "gaps"
    [condition] = place.probes.conditions(place.now)
    assert any("[withheld by the guardrail wit]" in quote for quote in condition.quotes)
    assert "joke" not in "".join(condition.quotes)


@pytest.mark.parametrize("tight", [(), ("wit",)])
async def test_a_guardrail_that_only_flags_changes_nothing_until_it_is_tightened(
    place: Place, tight: tuple[str, ...]
) -> None:
    place.guardrails = (Guardrail("wit", "answer", phrases=("as a joke",)),)
    place.tight = tight
    place.replica.answer = lambda text: "As a joke: yes." if of_others(text) else "Gladly."
    view = await place.rounds(3)
    assert (view.state == "gaps") is bool(tight)
    assert view.pairs >= 50


def test_what_cannot_be_looked_at_is_withheld_as_from_users() -> None:
    own = (Guardrail("form", "answer", "block", schema='{"type": "object"}'),)
    assert blocks_answer(own, b"no JSON") == "form"
    assert blocks_answer((), b"no JSON") == ""
    fits = b'{"choices": [{"message": {"content": "{}"}}]}'
    assert (blocks_answer(own, fits), blocks_prompt(own, "{}")) == ("", "")


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503, 302])
def test_what_is_no_answer_of_the_model_is_none(status: int) -> None:
    with pytest.raises(Unavailable):
        said_of(Completion("no", 1.0, status=status), frozenset(), None, None)


async def test_pairs_stop_for_the_day_when_they_have_cost_enough(place: Place) -> None:
    place.price = Price(1_000.0, 2_000.0)
    place.bias = msgspec.structs.replace(NAMES, usd_per_day=0.05)
    place.replica.raw = (
        b'{"choices": [{"message": {"content": "7"}}],'
        b' "usage": {"prompt_tokens": 8, "completion_tokens": 1}}'
    )
    view = await place.turn()
    assert (view.state, view.pairs, view.sent_today) == ("held", 4, 8)
    assert view.usd_today == pytest.approx(0.08)
    place.now += 200.0
    assert (await place.turn()).pairs == 4
    place.now += 86_400.0
    assert (await place.turn()).pairs == 8


async def test_another_release_begins_anew_and_one_that_comes_back_goes_on(place: Place) -> None:
    place.bias = msgspec.structs.replace(NAMES, pairs=4)
    await place.turn()
    place.release = OTHER
    assert (await place.turn()).pairs == 4
    place.release = RELEASE
    place.now += 100.0
    assert (await place.turn()).pairs == 8
    for number in range(RELEASES_MAX + 2):
        place.release = f"sha256:{number:064x}"
        await place.turn()
    assert len(place.store.kept) == RELEASES_MAX
    assert ("bias", f"bank/{RELEASE}") not in place.store.kept


async def test_a_gap_is_told_until_it_is_accepted_or_nothing_is_declared(place: Place) -> None:
    place.replica.answer = refusing(lambda text: 0.6 if of_others(text) else 0.0)
    assert (await place.rounds(10)).state == "gaps"
    assert len(place.probes.conditions(place.now)) == 1
    await place.again()
    await place.probes.advance([place.spec])
    assert len(place.probes.conditions(place.now)) == 1
    view = await place.probes.accept("bank")
    assert view.state == "watching"
    assert place.probes.conditions(place.now) == []
    with pytest.raises(NotFound, match="not asked pairs"):
        await place.probes.accept("shop")
    await place.probes.advance([SPEC])
    assert (place.probes.views(), place.probes.looked()) == ([], [])


async def test_documents_that_are_damaged_or_of_other_pairs_begin_anew(place: Place) -> None:
    for document in (b"{", b"\xff", b'{"service": 1}', b"[" * 10_000):
        place.store.kept["bias", f"bank/{RELEASE}"] = document
        await place.again()
        place.bias = msgspec.structs.replace(NAMES, pairs=2)
        assert (await place.turn()).pairs == 2
    place.bias = BiasSpec(builtin=("gender",), pairs=3)
    assert (await place.turn()).pairs == 3
    place.bias = msgspec.structs.replace(place.bias, interval_s=50.0)
    view = await place.turn()
    assert view.pairs == 3, "how often is no other question"


async def test_segments_alone_ask_nothing(place: Place) -> None:
    place.bias = BiasSpec(pairs=0, segments=(Segment("eu", ("eu-app",)),))
    await place.probes.advance([place.spec])
    assert place.probes.views() == []
    check_spec(place.spec)


@pytest.mark.parametrize("wrong", [{"usd_per_day": 1.0}, {"builtin": ("charm",)}])
def test_a_spec_whose_pairs_make_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    bias = msgspec.structs.replace(NAMES, **wrong)
    with pytest.raises(InvalidInput, match="bias"):
        check_spec(msgspec.structs.replace(SPEC, bias=bias))


def test_the_longest_spec_of_built_in_pairs_survives_its_way_to_control() -> None:
    spec = msgspec.structs.replace(SPEC, bias=BiasSpec(builtin=tuple(BUILTIN)))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ServiceSpec) == spec


async def test_answers_that_sound_less_friendly_are_told_with_their_scores(place: Place) -> None:
    """The dialect in which somebody asks: the words of the request themselves do not count."""
    dialect = BUILTIN["dialect"].groups[1].texts
    place.replica.answer = lambda text: (
        "That is your own fault, and it will fail." if text.startswith(dialect)
        else "Gladly, you will do great, enjoy it."
    )  # fmt: skip
    place.bias = BiasSpec(builtin=("dialect",), interval_s=100.0, pairs=60)
    view = await place.rounds(3)
    (gap,) = [each for each in view.gaps if each.outcome == "sentiment"]
    assert gap.found_at is not None
    assert gap.first_mean > 0.2 > 0.0 > gap.other_mean
    assert gap.gap == pytest.approx(gap.other_mean - gap.first_mean)
    assert gap.gap_least < gap.gap < gap.gap_most
    told = [c for c in place.probes.conditions(place.now) if "friendly" in c.summary]
    assert "sound less friendly than those to standard" in told[0].summary
    assert dict(told[0].labels)["outcome"] == "sentiment"
