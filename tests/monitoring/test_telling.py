"""Who is told, when, and of what nobody is: groups, repeats, silences, inhibition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.inhibition import BLIND, Inhibition, inhibited
from fairlead.monitoring.matching import Matcher, Op, all_match, parse_matcher
from fairlead.monitoring.silences import Silence, check_silence, silenced_by
from fairlead.monitoring.telling import Route, Told, audible, messages
from monitoring.making import changed, condition, firing

ROUTE = Route("ops", wait_s=30.0, interval_s=300.0, repeat_s=3_600.0)


def silence(*matchers: str, until: float = 2_000.0, since: float = 0.0) -> Silence:
    parsed = tuple(parse_matcher(text) for text in matchers)
    return Silence("s1", parsed, since, until, "ada", "maintenance")


def test_alerts_of_a_group_are_one_message_after_a_short_wait() -> None:
    alerts = firing(condition(slo="ttft"), condition(slo="availability"), now=0.0)
    assert messages([ROUTE], alerts, {}, 29.0) == []
    (message,) = messages([ROUTE], alerts, {}, 30.0)
    assert len(message.firing) == 2
    assert message.labels == (("service", "bank"), ("monitor", "slo"))


def test_what_was_told_is_not_told_again_until_something_changes_or_time_has_passed() -> None:
    alerts = firing(condition(slo="ttft"), now=0.0)
    (message,) = messages([ROUTE], alerts, {}, 30.0)
    told = {message.key: message.told}
    assert messages([ROUTE], alerts, told, 31.0) == []
    assert messages([ROUTE], alerts, told, 3_000.0) == []
    assert len(messages([ROUTE], alerts, told, 3_630.0)) == 1
    more = [*alerts, *firing(condition(slo="itl"), now=100.0)]
    assert messages([ROUTE], more, told, 200.0) == []
    assert len(messages([ROUTE], more, told, 330.0)) == 1


def test_the_end_is_told_once_to_those_who_know_of_it() -> None:
    alerts = observe({}, [condition()], {("slo", "bank")}, 0.0)
    (message,) = messages([ROUTE], alerts.values(), {}, 30.0)
    told = {message.key: message.told}
    for now in (60.0, 360.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
    (end,) = messages([ROUTE], alerts.values(), told, 361.0)
    assert (end.firing, len(end.resolved)) == ((), 1)
    assert messages([ROUTE], alerts.values(), {end.key: end.told}, 362.0) == []
    assert messages([ROUTE], alerts.values(), {}, 362.0) == []


def test_who_was_told_of_a_ticket_hears_of_its_end_though_it_became_a_page() -> None:
    route = Route("tickets", severities=(Severity.TICKET,), wait_s=0.0)
    alerts = observe({}, [condition(severity=Severity.TICKET)], {("slo", "bank")}, 0.0)
    (message,) = messages([route], alerts.values(), {}, 0.0)
    alerts = observe(alerts, [condition(severity=Severity.PAGE)], {("slo", "bank")}, 60.0)
    for now in (120.0, 420.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
    (end,) = messages([route], alerts.values(), {message.key: message.told}, 430.0)
    assert len(end.resolved) == 1


def test_a_message_that_never_arrived_is_due_again_with_the_same_facts() -> None:
    alerts = firing(condition(), now=0.0)
    assert messages([ROUTE], alerts, {}, 40.0) == messages([ROUTE], alerts, {}, 40.0)
    assert messages([ROUTE], alerts, {"other/": Told(1.0, ())}, 50.0) != []


def test_a_route_takes_the_severities_and_labels_that_it_names() -> None:
    page, ticket = condition(slo="a"), condition(slo="b", severity=Severity.TICKET)
    route = Route("pager", (Severity.PAGE,), (parse_matcher("service=~ba.*"),), wait_s=0.0)
    (message,) = messages([route], firing(page, ticket), {}, 2_000.0)
    assert [alert.of["slo"] for alert in message.firing] == ["a"]
    other = Route("pager", matchers=(parse_matcher("service=shop"),), wait_s=0.0)
    assert messages([other], firing(page), {}, 2_000.0) == []


def test_a_silence_holds_what_it_names_for_its_time() -> None:
    (alert,) = firing(condition(slo="ttft"))
    assert silenced_by(alert, [silence("service=bank", "slo=~tt.*")], 10.0) is not None
    assert silenced_by(alert, [silence("service=bank", "slo=~tt")], 10.0) is None
    assert silenced_by(alert, [silence("service=bank", "slo!=ttft")], 10.0) is None
    assert silenced_by(alert, [silence("severity=page")], 10.0) is not None
    assert silenced_by(alert, [silence("service=bank")], 2_000.0) is None
    assert silenced_by(alert, [silence("service=bank").ended(5.0)], 10.0) is None
    assert audible([alert], [silence("service=bank")], 10.0) == []


def test_an_end_is_told_though_a_silence_has_come_in_between() -> None:
    alerts = observe({}, [condition()], {("slo", "bank")}, 0.0)
    (message,) = messages([ROUTE], alerts.values(), {}, 30.0)
    for now in (60.0, 360.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
    heard = audible(alerts.values(), [silence("service=bank")], 400.0)
    assert len(messages([ROUTE], heard, {message.key: message.told}, 400.0)) == 1


def test_the_end_of_what_was_silenced_while_others_went_on_is_told() -> None:
    """A pager opens one thing for each alert, and closes it when it hears of that one's end."""
    both = {("slo", "bank")}
    one, other = condition(slo="ttft"), condition(slo="itl")
    alerts = observe({}, [one, other], both, 0.0)
    (message,) = messages([ROUTE], alerts.values(), {}, 30.0)
    told = {message.key: message.told}
    hush = [silence("slo=ttft", until=1e6)]
    heard = audible(alerts.values(), hush, 3_700.0)
    (again,) = messages([ROUTE], heard, told, 3_700.0)
    assert [alert.of["slo"] for alert in again.firing] == ["itl"]
    told = {again.key: again.told}
    assert messages([ROUTE], heard, told, 3_800.0) == []
    for now in (4_000.0, 4_300.0):
        alerts = observe(alerts, [other], both, now)
    (end,) = messages([ROUTE], audible(alerts.values(), hush, 4_300.0), told, 4_300.0)
    assert [alert.of["slo"] for alert in end.resolved] == ["ttft"]
    assert len(end.told.firing) == 1


def test_a_ticket_that_becomes_a_page_is_news_and_a_page_that_becomes_a_ticket_is_none() -> None:
    alerts = observe({}, [condition(severity=Severity.TICKET)], {("slo", "bank")}, 0.0)
    (first,) = messages([ROUTE], alerts.values(), {}, 30.0)
    told = {first.key: first.told}
    alerts = observe(alerts, [condition(severity=Severity.PAGE)], {("slo", "bank")}, 60.0)
    assert messages([ROUTE], alerts.values(), told, 329.0) == []
    (graver,) = messages([ROUTE], alerts.values(), told, 330.0)
    assert (graver.severity, graver.delivery != first.delivery) == (Severity.PAGE, True)
    alerts = observe(alerts, [condition(severity=Severity.TICKET)], {("slo", "bank")}, 400.0)
    assert messages([ROUTE], alerts.values(), {graver.key: graver.told}, 700.0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        silence(),
        silence("service=~.*"),
        silence("service=~.+"),
        silence("service=~.*.*"),
        silence("service=~(?s:.*)"),
        silence("service=~[^ ]*"),
        silence("service=~bank|.{3,}"),
        silence("shard=~|none"),
        silence("shard="),
        silence("service!=bank"),
        silence("service=bank", until=0.0),
        silence("service=bank", until=100 * 86_400.0),
        silence("service=bank", since=float("nan")),
        Silence("s", (Matcher("a", Op.IS, "b"),), 0.0, 1.0, "", "why"),
        Silence("s", (Matcher("a", Op.IS, "b"),), 0.0, 1.0, "ada", "  "),
        Silence("s", (Matcher("a", Op.LIKE, "(b"),), 0.0, 1.0, "ada", "why"),
    ],
)
def test_a_silence_is_of_something_ends_and_says_why(wrong: Silence) -> None:
    with pytest.raises(InvalidInput):
        check_silence(wrong)


@pytest.mark.parametrize("text", ["", "a", "=b", "1a=b", "a=~(b", "a==~["])
def test_what_is_no_matcher_is_refused(text: str) -> None:
    if text == "a==~[":
        assert parse_matcher(text) == Matcher("a", Op.IS, "=~[")
        return
    with pytest.raises(InvalidInput):
        parse_matcher(text)


def sent(alerts: list[Alert], *silences: Silence, route: Route = ROUTE) -> list[Alert]:
    """What a receiver that knows nothing is told of."""
    heard = audible(alerts, silences, 1_500.0)
    return [one for message in messages([route], heard, {}, 2_000.0) for one in message.firing]


def test_a_replica_that_is_down_is_not_slow_too() -> None:
    down = condition("replica_down", replica="r1")
    slow, other = condition("latency", replica="r1"), condition("latency", replica="r2")
    heard = sent(firing(down, slow, other))
    assert sorted((a.of["monitor"], a.of["replica"]) for a in heard) == [
        ("latency", "r2"), ("replica_down", "r1"),
    ]  # fmt: skip


def test_a_service_that_is_down_is_said_once() -> None:
    heard = sent(firing(condition("service_down"), condition("slo", slo="ttft"), condition("bias")))
    assert sorted(alert.of["monitor"] for alert in heard) == ["bias", "service_down"]


def test_an_alert_spares_only_those_who_are_told_of_it() -> None:
    alerts = firing(condition("service_down"), condition("slo", slo="ttft"))
    promises = Route("promises", matchers=(parse_matcher("monitor=slo"),), wait_s=0.0)
    assert [alert.of["monitor"] for alert in sent(alerts, route=promises)] == ["slo"]
    assert [alert.of["monitor"] for alert in sent(alerts)] == ["service_down"]


def test_an_alert_that_is_silenced_explains_no_other() -> None:
    alerts = firing(condition("service_down"), condition("slo", slo="ttft"))
    heard = sent(alerts, silence("monitor=service_down"))
    assert [alert.of["monitor"] for alert in heard] == ["slo"]


def test_a_ticket_hides_no_page() -> None:
    down = condition("service_down", severity=Severity.TICKET)
    ticket = condition("slo", severity=Severity.TICKET, slo="itl")
    heard = sent(firing(down, condition("slo", slo="ttft"), ticket))
    assert sorted((a.of["monitor"], a.severity.value) for a in heard) == [
        ("service_down", "ticket"), ("slo", "page"),
    ]  # fmt: skip


def test_of_several_that_explain_it_the_gravest_counts() -> None:
    either = (parse_matcher("monitor=~a|b"),)
    rule = Inhibition(either, (parse_matcher("monitor=slo"),), ("service",))
    for ticket, page in (("a", "b"), ("b", "a")):
        alerts = firing(
            condition(ticket, severity=Severity.TICKET), condition(page), condition("slo")
        )
        (source,) = inhibited(alerts, alerts, [rule]).values()
        assert source.of["monitor"] == page


def test_a_blind_monitor_inhibits_nothing_whatever_the_rules_say() -> None:
    rule = Inhibition((parse_matcher("monitor=~.*"),), (parse_matcher("monitor=slo"),), ())
    seen, blind = firing(condition(), condition(BLIND, watched="slo"))
    if seen.of["monitor"] == BLIND:
        seen, blind = blind, seen
    assert inhibited([seen], [blind], [rule]) == {}
    assert inhibited([blind], [seen], [rule]) == {}


def test_two_that_would_inhibit_each_other_are_both_told() -> None:
    both = (parse_matcher("monitor=~a|b"),)
    rule = Inhibition(both, both, ("service",))
    alerts = firing(condition("a"), condition("b"))
    assert inhibited(alerts, alerts, [rule]) == {}


def test_only_what_fires_inhibits() -> None:
    down = condition("replica_down", replica="r1", pending_s=600.0)
    alerts = firing(down, condition("latency", replica="r1"))
    latency = next(alert for alert in alerts if alert.of["monitor"] == "latency")
    assert inhibited([latency], alerts) == {}
    started = [changed(alert, state=AlertState.FIRING) for alert in alerts]
    (source,) = inhibited([latency], started).values()
    assert source.of["monitor"] == "replica_down"


RULES = (
    Inhibition((parse_matcher("monitor=a"),), (parse_matcher("monitor=~b|c"),), ("service",)),
    Inhibition((parse_matcher("monitor=~a|b"),), (parse_matcher("monitor=~b|c"),), ("replica",)),
)


def says_all(source: Alert, target: Alert) -> bool:
    """The rules as Alertmanager words them, one pair at a time."""
    one, other = source.of, target.of
    return any(
        all_match(rule.source, one)
        and all_match(rule.target, other)
        and not (all_match(rule.source, other) and all_match(rule.target, one))
        and all(name in one and one[name] == other.get(name) for name in rule.equal)
        for rule in RULES
    )


@given(
    st.sets(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(["", "r1", "r2"])),
        max_size=10,
    )
)
def test_what_is_inhibited_is_what_the_rules_say_of_each_pair(
    about: set[tuple[str, str, str]],
) -> None:
    alerts = firing(*(condition(m, service=s, replica=r) for m, s, r in sorted(about)))
    found = inhibited(alerts, alerts, RULES)
    for target in alerts:
        sources = [one for one in alerts if one is not target and says_all(one, target)]
        assert (target.fingerprint in found) is bool(sources)
        assert not sources or found[target.fingerprint] in sources
