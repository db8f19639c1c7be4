"""Deliveries: again with back-off, bounded, and never lost without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest

from control.notify.receiving import HttpReceiver
from control.notify.telling import T0, firing, several
from fairlead.cli.watching import ALERTMANAGER_EVERY_S
from fairlead.control.notify import sending
from fairlead.control.notify.courier import ATTEMPTS, GIVEN_UP_S, IN_FLIGHT_MAX, Courier
from fairlead.control.notify.rendering import ENDS_AFTER_S
from fairlead.control.notify.sending import TIMEOUT_S, Sender
from fairlead.domain.receivers import PagerDuty, Webhook
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.telling import Route, Told, messages
from fairlead.targets.http import HttpFailed


class Bench:
    """A courier on a clock of its own."""

    def __init__(self, http: HttpReceiver, chance: Callable[[], float] = lambda: 1.0) -> None:
        self.now = T0
        self.slept: list[float] = []
        receivers = {"ops": Webhook(http.url), "other": Webhook(http.url)}
        self.courier = Courier(receivers, Sender({}), lambda: self.now, self._sleep, chance)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def settled(self) -> dict[str, Told]:
        """What has arrived, once nothing is under way any more."""
        for _ in range(6_000):
            found = self.courier.arrived()
            if found or not self.courier._tasks:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError("deliveries do not end")

    def counts(self) -> dict[str, float]:
        (state,) = self.courier.states()
        return {labels[1]: values[0] for labels, values in state.series if labels[0] == "ops"}


async def test_what_arrives_is_told_and_counted(http: HttpReceiver) -> None:
    bench = Bench(http)
    message = firing()
    assert bench.courier.start(message)
    assert not bench.courier.start(message), "one at a time for each group"
    assert await bench.settled() == {message.key: message.told}
    assert (len(http.calls), bench.counts()) == (1, {"sent": 1.0})


async def test_a_receiver_that_fails_for_a_while_gets_it_later_and_once(
    http: HttpReceiver,
) -> None:
    bench = Bench(http)
    http.answers = [500, 503, 429]
    bench.courier.start(firing())
    assert len(await bench.settled()) == 1
    assert len(http.calls) == 4
    assert len({call.headers["x-fairlead-delivery"] for call in http.calls}) == 1
    assert bench.slept == [1.0, 2.0, 4.0]
    assert bench.counts() == {"sent": 1.0, "retried": 3.0}
    assert bench.courier.conditions() == ()


async def test_waits_are_spread_so_that_many_do_not_come_at_once(http: HttpReceiver) -> None:
    bench = Bench(http, chance=lambda: 0.0)
    http.answers = [500, 500]
    bench.courier.start(firing())
    await bench.settled()
    assert bench.slept == [0.5, 1.0]


async def test_what_is_given_up_is_an_alert_until_something_arrives(http: HttpReceiver) -> None:
    bench = Bench(http)
    http.answers = [500] * ATTEMPTS
    bench.courier.start(firing())
    assert await bench.settled() == {}
    assert len(http.calls) == ATTEMPTS
    (condition,) = bench.courier.conditions()
    assert condition.summary == "alerts do not reach ops: 127.0.0.1: answered 500"
    assert bench.counts()["failed"] == 1.0
    assert not bench.courier.start(firing()), "it is left alone for a while"
    bench.now += GIVEN_UP_S
    assert bench.courier.start(firing())
    assert len(await bench.settled()) == 1
    assert bench.courier.conditions() == ()


async def test_what_cannot_help_is_not_tried_again(http: HttpReceiver) -> None:
    bench = Bench(http)
    http.answers = [404]
    bench.courier.start(firing())
    assert await bench.settled() == {}
    assert (len(http.calls), bench.slept) == (1, [])


async def test_what_a_receiver_refuses_of_one_group_holds_up_no_other_group(
    http: HttpReceiver,
) -> None:
    bench = Bench(http)
    http.answers = [400]
    refused, other = firing(), msgspec.structs.replace(firing(), key="ops/other")
    assert bench.courier.start(refused)
    assert await bench.settled() == {}
    assert not bench.courier.start(refused), "that one is left alone for a while"
    assert bench.courier.start(other)
    assert list(await bench.settled()) == [other.key]
    assert len(bench.courier.conditions()) == 1, "what it took of the other does not hide this"
    bench.now += GIVEN_UP_S
    assert bench.courier.start(refused)
    assert list(await bench.settled()) == [refused.key]
    assert bench.courier.conditions() == ()


async def test_what_arrived_of_a_message_is_known_and_the_rest_is_due_and_an_alert(
    http: HttpReceiver,
) -> None:
    bench = Bench(http)
    bench.courier.receivers = {"ops": PagerDuty("ALERT_PD", http.url)}
    bench.courier.sender = Sender({"ALERT_PD": "routing"})
    message, http.answers = several("availability", "ttft"), [200, 400]
    first, second = message.firing
    bench.courier.start_all([message])
    told = await bench.settled()
    assert [one.fingerprint for one in told[message.key].firing] == [first.fingerprint]
    (again,) = messages([Route("ops")], message.firing, told, T0 + 2.0)
    assert again.firing == message.firing
    bench.courier.start_all([again])
    (condition,) = bench.courier.conditions()
    assert condition.summary.endswith("answered 400 (1 of 2 alerts)")
    over = msgspec.structs.replace(first, state=AlertState.RESOLVED, entered_at=T0 + 2.0)
    (end,) = messages([Route("ops")], (over, second), told, T0 + 2.0)
    assert end.resolved == (over,), "whose beginning has arrived, its end is told"
    bench.now += GIVEN_UP_S
    bench.courier.start_all([again])
    assert await bench.settled() == {again.key: again.told}
    assert (len(http.calls), bench.courier.conditions()) == (3, ())


async def test_an_alert_that_is_refused_holds_up_no_new_one_of_its_group(
    http: HttpReceiver,
) -> None:
    """Also where it is the only one so far, and where one of them becomes graver."""
    bench = Bench(http)
    bench.courier.receivers = {"ops": PagerDuty("ALERT_PD", http.url)}
    bench.courier.sender = Sender({"ALERT_PD": "routing"})
    http.answers = [400]
    bench.courier.start_all([several("ttft")])
    await bench.settled()
    assert not bench.courier.start(several("ttft")), "it would be refused again"
    both, http.answers = several("availability", "ttft"), [200, 400]
    assert bench.courier.start(both)
    assert len((await bench.settled())[both.key].firing) == 1
    assert not bench.courier.start(both)
    graver = tuple(msgspec.structs.replace(a, severity=Severity.TICKET) for a in both.firing)
    assert bench.courier.start(msgspec.structs.replace(both, firing=graver))
    await bench.settled()


async def test_a_receiver_that_takes_some_alerts_is_not_left_alone_with_all_groups(
    http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But one that answers no more is, though it has taken some before."""
    bench = Bench(http)
    bench.courier.receivers = {"ops": PagerDuty("ALERT_PD", http.url)}
    bench.courier.sender = Sender({"ALERT_PD": "routing"})
    message, other = several("availability", "ttft"), several("cost", "quality")
    other = msgspec.structs.replace(other, key="ops/other")
    http.answers = [200, *[503] * ATTEMPTS]
    bench.courier.start(message)
    await bench.settled()
    assert bench.courier.start(other)
    await bench.settled()
    bench.now += GIVEN_UP_S

    async def gone(*_given: object, **_more: object) -> None:
        raise HttpFailed("nobody there")

    monkeypatch.setattr(sending, "request", gone)
    more = several("availability", "ttft", "itl")
    assert bench.courier.start(more)
    await bench.settled()
    assert not bench.courier.start(other)


async def test_a_receiver_that_does_not_answer_is_left_alone_with_all_its_groups(
    http: HttpReceiver,
) -> None:
    bench = Bench(http)
    http.answers = [500] * ATTEMPTS
    bench.courier.start(firing())
    assert await bench.settled() == {}
    other = msgspec.structs.replace(firing(), key="ops/other")
    assert not bench.courier.start(other)
    bench.now += GIVEN_UP_S
    assert bench.courier.start(other)
    assert list(await bench.settled()) == ["ops/other"]
    assert bench.courier.conditions() == (), "it takes something again"
    assert bench.courier.start(firing())
    await bench.settled()


async def test_addresses_that_refuse_a_mail_which_others_get_are_counted(
    http: HttpReceiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def partly(*_arguments: object) -> int:
        return 2

    bench = Bench(http)
    monkeypatch.setattr(bench.courier.sender, "send", partly)
    bench.courier.start(firing())
    assert len(await bench.settled()) == 1
    assert bench.counts() == {"sent": 1.0, "refused": 2.0}
    assert "2 of the addresses of ops refused an alert" in caplog.text


async def test_one_receiver_that_fails_holds_up_no_other(http: HttpReceiver) -> None:
    bench = Bench(http)
    http.answers = [404]
    bench.courier.start(firing("ops"))
    await bench.settled()
    assert bench.courier.start(firing("other"))
    assert list(await bench.settled()) == [firing("other").key]


async def test_a_receiver_that_is_not_declared_any_more_fails_and_is_no_alert(
    http: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(http)
    bench.courier.start(firing("gone"))
    assert await bench.settled() == {}
    assert "not declared" in caplog.text
    assert bench.courier.conditions() == ()


async def test_an_alert_that_does_not_arrive_is_one_only_while_something_is_due(
    http: HttpReceiver,
) -> None:
    """That it does not arrive is due to the same receiver, and must not keep itself alive."""
    bench = Bench(http)
    http.answers = [404, 404]
    bench.courier.start_all([firing()])
    assert await bench.settled() == {}
    found = bench.courier.conditions()
    alerts = observe({}, found, {one.seen_by for one in found}, T0)
    (itself,) = messages([Route("ops", wait_s=0.0)], alerts.values(), {}, T0)
    bench.courier.start_all([firing(), itself])
    assert await bench.settled() == {}
    assert len(http.calls) == 2
    (still,) = bench.courier.conditions()
    assert still.evidence[0].value == 1.0, "that this did not arrive does not count"
    bench.courier.start_all([itself])
    assert bench.courier.conditions() == ()
    (elsewhere,) = messages([Route("other", wait_s=0.0)], alerts.values(), {}, T0)
    http.answers = [404]
    bench.courier.start_all([elsewhere])
    assert await bench.settled() == {}
    (found_there,) = bench.courier.conditions()
    assert dict(found_there.labels)["receiver"] == "other", "to others it is due as any alert"


async def test_a_defect_of_ours_is_a_failure_that_is_seen(
    http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object) -> None:
        raise RuntimeError("http://SECRET")

    bench = Bench(http)
    monkeypatch.setattr(bench.courier.sender, "send", broken)
    bench.courier.start(firing())
    assert await bench.settled() == {}
    (condition,) = bench.courier.conditions()
    assert condition.summary == "alerts do not reach ops: a defect (RuntimeError)"


def test_a_courier_does_not_count_its_waits_by_the_time_of_day() -> None:
    assert Courier({}, Sender({})).clock is time.monotonic


async def test_an_alertmanager_does_not_forget_what_it_could_not_be_told_for_a_while(
    http: HttpReceiver,
) -> None:
    """It is told each minute; then one delivery is given up, and the next one has one attempt."""
    bench = Bench(http)
    http.answers = [500] * ATTEMPTS
    began = bench.now
    bench.courier.start(firing())
    assert await bench.settled() == {}
    out_s = ALERTMANAGER_EVERY_S + ATTEMPTS * TIMEOUT_S + (bench.now - began) + GIVEN_UP_S
    assert out_s + TIMEOUT_S + 60.0 < ENDS_AFTER_S


async def test_deliveries_are_bounded_and_end_with_the_courier(http: HttpReceiver) -> None:
    bench = Bench(http)
    stuck = asyncio.Event()

    async def forever(_seconds: float) -> None:
        await stuck.wait()

    bench.courier.sleep = forever
    http.answers = [500] * (IN_FLIGHT_MAX + 1)
    started = 0
    for index in range(IN_FLIGHT_MAX + 1):
        message = msgspec.structs.replace(firing(), key=f"ops/{index}")
        started += bench.courier.start(message)
    assert started == IN_FLIGHT_MAX
    assert bench.courier.start(firing("other")), "each receiver has a bound of its own"
    await bench.courier.close()
    assert bench.courier.arrived() == {}
