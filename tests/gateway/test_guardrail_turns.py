"""Long texts are looked at in turns: how long a look is, who is next, what is held meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

import pytest
from gateway_rig import A, completion, event, route

from fairlead.domain.guarding import SLICE_CHARS, WIDE_SLICE_CHARS
from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.errors import Refusal
from fairlead.gateway.guardrails.guarding import Guarding
from fairlead.gateway.guardrails.said import ANSWER_PARTS_MAX, ANSWER_VALUES_MAX, VALUES_MAX
from fairlead.gateway.guardrails.turns import BUDGET_S, Turns
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.usage import UNKNOWN, Usage
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.snapshot import ServiceRoute

SECRET = "project swordfish"
NO_LEAKS = Guardrail("leaks", "answer", "block", phrases=(SECRET,))
NO_SECRETS = Guardrail("secrets", "prompt", "block", phrases=(SECRET,))
PLAIN = AnswerHead(200, {b"content-type": b"application/json"})
STREAM = AnswerHead(200, {b"content-type": b"text/event-stream"})
WIDE = "日本語" * 10_000
"""In one event: thirty pieces, of letters that are not ASCII."""


class Loop:
    """An event loop by hand. Each look at its clock finds it later by `step_s`."""

    def __init__(self, step_s: float = 1.0) -> None:
        self.now = 0.0
        self._step_s = step_s
        self._soon: list[Callable[[], None]] = []
        self.turns = Turns(self._read, self._soon.append)

    def _read(self) -> float:
        self.now += self._step_s
        return self.now

    def turn(self) -> None:
        soon, self._soon[:] = list(self._soon), []
        for call in soon:
            call()

    @property
    def is_idle(self) -> bool:
        return not self._soon

    def run(self) -> int:
        """Until nothing is to be done; how many turns that took."""
        count = 0
        while not self.is_idle:
            self.turn()
            count += 1
        return count


class Request:
    """Says what comes to it."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.is_read: list[bool] = []
        self.has_error = False
        self.guarding: Guarding

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return False

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self.said.append("begins")

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        self.said.append(data)

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        self.said.append(body)

    def last_part(self, data: bytes, usage: Usage) -> None:
        self.said.append("last")

    def end_with(self, end: bytes) -> None:
        self.said.append("end")

    def answer_broke(self, reason: str) -> None:
        if not self.guarding.holds(lambda: self.said.append(reason)):
            self.said.append(reason)

    def engine_failed(self) -> bool:
        return False

    def refuse(self, refusal: Refusal) -> None:
        self.said.append(refusal.code)
        self.guarding.close()

    def flow(self) -> None:
        self.is_read.append(not self.guarding.is_looking)


def call_of(body: dict[str, Any], key: str = "k") -> Call:
    return Call(
        request_id="r",
        key_id=key,
        kind="chat/completions",
        body=json.dumps(body, separators=(",", ":")).encode(),
        fields=Fields(model="bank"),
        service=LiveService(ServiceRoute("bank", {}, None), {}),
        assignment=Assignment("champion", A, "u", 0.0, "", 0),
    )


def request(loop: Loop, *guardrails: Guardrail, key: str = "k", text: str = "") -> Request:
    """A request whose answer is about to come."""
    made = Request()
    call = call_of({"messages": [{"role": "user", "content": text}]}, key)
    made.guarding = Guarding(call, made, loop.turns)
    made.guarding.expect(route(A, guardrails=guardrails), 200)
    return made


def steps(log: list[str], name: str, count: int) -> Callable[[], bool]:
    left = [count]

    def step() -> bool:
        log.append(name)
        left[0] -= 1
        return left[0] > 0

    return step


def test_keys_take_turns_however_many_texts_one_of_them_has() -> None:
    loop, log = Loop(), list[str]()
    for _ in range(100):
        loop.turns.add("greedy", steps(log, "greedy", 50))
    loop.turns.add("modest", steps(log, "modest", 3))
    for _ in range(6):
        loop.turn()
    assert log == ["greedy", "modest"] * 3
    assert loop.run() == 100 * 50 - 3


def test_texts_of_one_key_take_turns() -> None:
    loop, log = Loop(), list[str]()
    loop.turns.add("k", steps(log, "long", 50))
    loop.turns.add("k", steps(log, "short", 2))
    for _ in range(4):
        loop.turn()
    assert log == ["long", "short", "long", "short"]


@pytest.mark.parametrize(("step_s", "in_a_turn"), [(0.0, 90), (BUDGET_S, 1), (BUDGET_S / 3.5, 4)])
def test_all_texts_together_have_one_budget_in_each_turn(step_s: float, in_a_turn: int) -> None:
    loop, log = Loop(step_s), list[str]()
    for number in range(30):
        loop.turns.add(f"key {number}", steps(log, "x", 3))
    loop.turn()
    assert len(log) == in_a_turn


def test_a_step_that_breaks_is_the_end_of_no_other() -> None:
    loop, log = Loop(), list[str]()

    def breaks() -> bool:
        raise ValueError("broken")

    loop.turns.add("a", breaks)
    loop.turns.add("b", steps(log, "b", 2))
    with pytest.raises(ValueError, match="broken"):
        loop.turn()
    loop.run()
    assert log == ["b", "b"]


def test_a_step_can_begin_another_one() -> None:
    loop, log = Loop(), list[str]()

    def begins() -> bool:
        loop.turns.add("a", steps(log, "begun", 1))
        loop.turns.add("b", steps(log, "other", 1))
        return False

    loop.turns.add("a", begins)
    loop.run()
    assert sorted(log) == ["begun", "other"]
    assert loop.is_idle


def test_a_short_answer_is_looked_at_at_once() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    body = completion("fine")
    one.guarding.whole_answer(PLAIN, body, UNKNOWN)
    assert one.said == [body]
    assert loop.is_idle


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("so it is. " * 50_000, 500_000 // SLICE_CHARS), (WIDE, len(WIDE) // WIDE_SLICE_CHARS)],
)
def test_a_long_plain_answer_holds_up_nobody(text: str, pieces: int) -> None:
    """A look is at one piece, and the next one waits for the next turn."""
    loop = Loop()
    one, two = request(loop, NO_LEAKS), request(loop, NO_LEAKS)
    body = completion(text)
    one.guarding.whole_answer(PLAIN, body, UNKNOWN)
    two.guarding.whole_answer(PLAIN, completion(text + SECRET), UNKNOWN)
    assert one.said == two.said == []
    assert loop.run() >= 2 * pieces - 2
    assert one.said == [body]
    [withheld] = two.said
    assert b"withheld by the guardrail `leaks`" in cast(bytes, withheld)
    assert two.guarding.found == (1, "leaks", "leaks")


def test_what_comes_behind_a_long_part_of_a_stream_is_held_in_order() -> None:
    """And nothing more is read until it is passed on."""
    loop = Loop()
    one = request(loop, NO_LEAKS)
    guarding = one.guarding
    guarding.begin_answer(STREAM, None)
    first, second = event(WIDE), event("and on")
    guarding.pass_on(first)
    guarding.pass_on(second)
    guarding.last_part(b"data: [DONE]\n\n", UNKNOWN)
    assert one.said == ["begins"]
    assert one.is_read == [False]
    assert loop.run() >= len(WIDE) // WIDE_SLICE_CHARS - 1
    assert one.said == ["begins", first, second, "last"]
    assert one.is_read[-1]


def test_a_hit_in_a_long_part_lets_nothing_of_it_pass() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    one.guarding.pass_on(event("before"))
    one.guarding.pass_on(event(WIDE + SECRET + WIDE))
    one.guarding.pass_on(event("behind"))
    loop.run()
    assert one.said == [event("before"), "guardrail"]


def test_a_phrase_is_found_where_a_long_part_meets_the_next() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    one.guarding.pass_on(event(WIDE + " project"))
    one.guarding.pass_on(event(" swordfish"))
    loop.run()
    assert one.said == [event(WIDE + " project"), "guardrail"]


def test_a_stream_that_breaks_breaks_behind_what_is_held() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    one.guarding.pass_on(event(WIDE))
    one.guarding.answer_broke("reset")
    assert one.said == []
    loop.run()
    assert one.said == [event(WIDE), "reset"]


def test_what_an_ended_request_holds_is_let_go() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    one.guarding.pass_on(event(WIDE))
    one.guarding.pass_on(event("behind"))
    one.guarding.close()
    assert loop.run() == 1
    assert one.said == []


def test_many_short_events_at_once_are_one_look() -> None:
    loop = Loop()
    one = request(loop, NO_LEAKS)
    data = b"".join(event(f"word{number} ") for number in range(200))
    one.guarding.pass_on(data)
    assert one.said == [data]


def test_a_long_prompt_of_one_key_waits_for_no_hundred_of_another() -> None:
    loop, then = Loop(), list[str]()
    text = "so it is. " * 10_000
    for _ in range(100):
        asks = request(loop, key="greedy", text=text)
        asks.guarding.prompt(route(A, guardrails=(NO_SECRETS,)), lambda _: then.append("greedy"))
    asks = request(loop, key="modest", text=text)
    asks.guarding.prompt(route(A, guardrails=(NO_SECRETS,)), lambda _: then.append("modest"))
    turns = 0
    while not then:
        loop.turn()
        turns += 1
    assert then == ["modest"]
    assert turns <= 2 * (len(text) // SLICE_CHARS + 1)
    loop.run()
    assert then.count("greedy") == 100


def test_what_no_client_waits_for_is_looked_at_when_nothing_else_is_one_look_in_a_turn() -> None:
    loop, log = Loop(step_s=0.0), list[str]()
    loop.turns.add_spare("k", steps(log, "copy", 3))
    loop.turns.add("k", steps(log, "live", 2))
    loop.turns.add("other", steps(log, "live", 2))
    loop.turn()
    assert log == ["live"] * 4
    loop.turn()
    assert log == ["live"] * 4 + ["copy"]
    loop.turns.add("k", steps(log, "late", 1))
    loop.turn()
    assert log[5:] == ["late"]
    loop.run()
    assert log[6:] == ["copy"] * 2
    assert loop.is_idle


def test_a_schema_is_held_against_an_answer_in_turns() -> None:
    """One that would take tenths of a second in one piece."""
    loop = Loop()
    schema = {"items": {"anyOf": [*[{"type": "null"}] * 10, {"type": "integer"}]}}
    form = Guardrail("form", "answer", "block", schema=json.dumps(schema))
    one = request(loop, form)
    body = completion(f"[{'1,' * 3_000}1]")
    one.guarding.whole_answer(PLAIN, body, UNKNOWN)
    assert one.said == []
    assert loop.run() > 20
    assert one.said == [body]
    assert one.guarding.found == (0, "", "")


def test_schemas_of_many_answers_take_turns_with_one_of_another_key() -> None:
    """Each of their checks goes on where it stood."""
    loop = Loop()
    schema = {"items": {"anyOf": [*[{"type": "null"}] * 10, {"type": "integer"}]}}
    form = Guardrail("form", "answer", "block", schema=json.dumps(schema))
    wrong = completion(f"[{'1,' * 3_000}true]")
    many = [request(loop, form, key="greedy") for _ in range(20)]
    for one in many:
        one.guarding.whole_answer(PLAIN, wrong, UNKNOWN)
    modest = request(loop, form, key="modest")
    body = completion(f"[{'1,' * 1_000}1]")
    modest.guarding.whole_answer(PLAIN, body, UNKNOWN)
    while not modest.said:
        loop.turn()
    assert modest.said == [body]
    assert not any(one.said for one in many)
    loop.run()
    assert {one.guarding.found for one in many} == {(1, "form", "form")}


def test_a_prompt_of_very_many_parts_is_read_in_turns() -> None:
    """Numbers, texts and names: of none of them many are read at once."""
    for part in ("a", 1, {"a": 1}, [], {}):
        loop, then = Loop(), list[Refusal | None]()
        asks = request(loop, text="hello")
        parts = [part] * 100_000
        asks.guarding = Guarding(call_of({"messages": [], "x": parts}), asks, loop.turns)
        asks.guarding.prompt(route(A, guardrails=(NO_SECRETS,)), then.append)
        assert then == []
        assert loop.run() >= 40
        assert then == [None]


def test_a_prompt_of_more_values_than_are_read_is_a_hit() -> None:
    loop, then = Loop(), list[Refusal | None]()
    asks = request(loop)
    asks.guarding = Guarding(call_of({"x": [1] * (VALUES_MAX + 2)}), asks, loop.turns)
    asks.guarding.prompt(route(A, guardrails=(NO_SECRETS,)), then.append)
    [refusal] = then
    assert refusal is not None
    assert refusal.code == "guardrail"


@pytest.mark.parametrize(
    "said",
    [
        {"choices": [{"message": {"content": "x", "more": [1] * (ANSWER_VALUES_MAX + 2_000)}}]},
        {"choices": [{}] * (ANSWER_PARTS_MAX + 1)},
        {"content": [{"type": "text", "text": "x"}] * (ANSWER_PARTS_MAX + 1)},
    ],
)
def test_an_answer_of_more_parts_than_are_read_is_a_hit(said: dict[str, Any]) -> None:
    """A plain one, and an event of a stream."""
    loop = Loop()
    plain, stream = request(loop, NO_LEAKS), request(loop, NO_LEAKS)
    body = json.dumps(said).encode()
    plain.guarding.whole_answer(PLAIN, body, UNKNOWN)
    assert b"withheld by the guardrail" in cast(bytes, plain.said[0])
    stream.guarding.pass_on(b"data: " + body + b"\n\n")
    assert stream.said == ["guardrail"]
