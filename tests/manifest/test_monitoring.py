"""`slos` and `monitoring`: what they come to in the deciders, and that both know the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from fairlead.cli.watching import (
    actions_of,
    declared_of,
    promises_of,
    receivers_of,
    routes_of,
)
from fairlead.domain import receivers
from fairlead.domain.errors import ManifestError
from fairlead.domain.release import RemoteModel
from fairlead.manifest import Manifest, parse_manifest
from fairlead.manifest.monitor_names import MONITORS
from fairlead.manifest.monitoring import Action, Severity
from fairlead.monitoring.actions import ActionKind
from fairlead.monitoring.burning import Severity as Severities
from fairlead.monitoring.embedding_model import EmbeddingModel
from fairlead.monitoring.inhibition import BLIND, DEFAULTS
from fairlead.monitoring.objectives import AVAILABILITY_DEFAULT, ObjectiveKind
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.runbooks import MONITORS as RUNBOOKS
from fairlead.monitoring.runbooks import PAGE, runbook_of
from monitoring.making import condition, firing

ROOT = Path(__file__).parents[2]
BASE = """
service: bank
release:
  model: openai://h.example/v1?model=m
  price: {input_per_million: 1.0, output_per_million: 2.0}
fallbacks: [small]
"""


def manifest(text: str = "") -> Manifest:
    return parse_manifest(BASE + text, Path("fairlead.yaml"))


def test_availability_is_promised_where_nothing_is_declared() -> None:
    (only,) = promises_of(manifest()).objectives
    assert (only.kind, only.target) == (ObjectiveKind.AVAILABILITY, AVAILABILITY_DEFAULT)
    assert (only.period_days, only.requests_min, only.bad_min) == (30.0, 10, 3)


def test_every_promise_is_an_objective() -> None:
    promised = promises_of(
        manifest(
            "slos: {availability: 99.9%, ttft_p95_ms: 500, itl_p95_ms: 40, latency_p95_ms: 2000,\n"
            "  usd_per_request: 0.01, quality: 90%, period_days: 7}\n"
            "monitoring: {least_requests: 50, least_bad: 5, runbook: 'https://x.example/r'}\n"
        )
    )
    assert [(one.kind.value, one.target, one.threshold) for one in promised.objectives] == [
        ("availability", 0.999, None),
        ("ttft", 0.95, 500.0),
        ("itl", 0.95, 40.0),
        ("latency", 0.95, 2000.0),
        ("cost", 1.0, 0.01),
        ("quality", 0.9, None),
    ]
    assert {(o.period_days, o.requests_min, o.bad_min) for o in promised.objectives} == {(7, 50, 5)}
    assert promised.runbook == "https://x.example/r"


def test_an_embedding_model_is_a_service_or_a_provider_s() -> None:
    capture = "capture: {share: 50%}\nmonitoring:\n  embeddings: "
    near = declared_of(manifest(capture + "{service: minilm, per_day: 5000}")).embeddings
    assert near == EmbeddingModel("minilm", per_day=5_000)
    far = "{model: 'openai://h.example/v1?model=small', api_key_env: H_KEY, timeout_seconds: 5}"
    declared = declared_of(manifest(capture + far)).embeddings
    provider = RemoteModel("https://h.example/v1", "small", "H_KEY")
    assert declared == EmbeddingModel(provider=provider, timeout_s=5.0)
    for given, said in (
        ("{service: bank}", "is this service itself"),
        ("{}", "needs either a service or a model"),
        ("{service: minilm, api_key_env: H_KEY}", "has a provider's key, but no model"),
    ):
        with pytest.raises(ManifestError) as caught:
            manifest(capture + given)
        assert said in caught.value.message
    with pytest.raises(ManifestError, match="are of what `capture` keeps"):
        manifest("monitoring: {embeddings: {service: minilm}}")


def test_a_runbook_is_the_services_own_or_ours() -> None:
    """Each monitor of which something can be said has its place on our page, and no other has."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([a-z_]+)"></a>', page)
    assert sorted(anchors) == sorted(RUNBOOKS)
    assert set(MONITORS) <= RUNBOOKS
    declared = manifest("monitoring: {runbook: 'https://x.example/{monitor}'}\n")
    assert runbook_of("drift", declared_of(declared).runbook) == "https://x.example/drift"
    assert runbook_of("drift", "") == "docs/alerts.md#drift"
    assert runbook_of("another", "") == ""


RECEIVERS = {
    "{kind: webhook, url: 'https://x.example/a', secret_env: ALERT_S}": receivers.Webhook(
        "https://x.example/a", None, "ALERT_S"
    ),
    "{kind: slack, url_env: ALERT_S}": receivers.Slack("ALERT_S"),
    "{kind: pagerduty, key_env: ALERT_K}": receivers.PagerDuty("ALERT_K"),
    "{kind: email, host: mail.example, sender: a@x.example, to: [b@x.example]}": receivers.Email(
        "mail.example", "a@x.example", ("b@x.example",)
    ),
    "{kind: alertmanager, url: 'http://am:9093'}": receivers.Alertmanager("http://am:9093"),
    "{kind: apprise, url_env: ALERT_A}": receivers.Apprise("ALERT_A"),
}


@pytest.mark.parametrize("text", RECEIVERS)
def test_every_kind_of_receiver_can_be_declared(text: str) -> None:
    declared = manifest(f"monitoring:\n  routes:\n  - {{name: ops, to: {text}}}\n")
    assert receivers_of(declared) == {"bank/ops": RECEIVERS[text]}
    (route,) = routes_of(declared)
    assert route.receiver == "bank/ops"


def test_a_route_takes_alerts_of_its_service_and_of_none() -> None:
    text = "monitoring:\n  routes:\n  - {name: ops, to: {kind: slack, url_env: ALERT_S}}\n"
    dotted = parse_manifest((BASE + text).replace("bank", "bank.eu"), Path("fairlead.yaml"))
    (route,) = routes_of(dotted)
    alerts = firing(
        condition(service="bank.eu"),
        condition(service="bank-eu"),
        condition(service="shop"),
        condition("notifications", service=""),
    )
    taken = {alert.of.get("service", "") for alert in alerts if route.takes(alert)}
    assert taken == {"bank.eu", ""}


def test_a_mail_server_is_written_in_any_case() -> None:
    text = "{kind: email, host: Mail.Example, sender: a@x.example, to: [b@x.example]}"
    declared = manifest(f"monitoring:\n  routes:\n  - {{name: ops, to: {text}}}\n")
    (receiver,) = receivers_of(declared).values()
    assert isinstance(receiver, receivers.Email)
    assert receiver.host == "mail.example"


def test_every_monitor_that_inhibition_knows_can_be_acted_on() -> None:
    named = {
        name
        for rule in DEFAULTS
        for matcher in (*rule.source, *rule.target)
        if matcher.name == "monitor"
        for name in matcher.value.split("|")
    }
    assert {*named, SLO} - {BLIND} <= set(MONITORS)


def test_a_route_is_as_declared_and_an_alertmanager_is_told_again_and_again() -> None:
    declared = manifest(
        "monitoring:\n  routes:\n"
        "  - name: pager\n    severities: [page]\n    match: ['slo!=ttft']\n"
        "    group_by: [service]\n"
        "    wait_seconds: 5\n    repeat_hours: 1\n    resolved: false\n    quotes: true\n"
        "    to: {kind: pagerduty, key_env: ALERT_K}\n"
        "  - {name: am, to: {kind: alertmanager, url: 'http://am:9093'}}\n"
    )
    pager, am = routes_of(declared)
    assert (pager.severities, pager.group_by, pager.resolved) == (
        (Severities.PAGE,), ("service",), False,
    )  # fmt: skip
    assert (pager.wait_s, pager.interval_s, pager.repeat_s) == (5.0, 300.0, 3_600.0)
    assert [str(one) for one in pager.matchers] == ['service=~"bank|"', 'slo!="ttft"']
    assert (am.wait_s, am.interval_s, am.repeat_s) == (0.0, 0.0, 60.0)
    assert (pager.quotes, am.quotes) == (True, False)


def test_an_action_is_as_declared() -> None:
    (policy,) = actions_of(
        manifest(
            "monitoring:\n  actions:\n  - {do: scale, monitors: [slo, latency],\n"
            "     severities: [page, ticket], match: ['slo=~ttft|itl'], cooldown_minutes: 10,\n"
            "     per_day: 5, dry_run: true, replicas_more: 2}\n"
        )
    )
    assert (policy.kind, policy.monitors, policy.cooldown_s) == (
        ActionKind.SCALE, ("slo", "latency"), 600.0,
    )  # fmt: skip
    assert (policy.per_day_max, policy.dry_run, policy.replicas_more) == (5, True, 2)
    (back,) = actions_of(
        manifest("monitoring:\n  actions:\n  - {do: roll_back, monitors: [slo], within_hours: 2}\n")
    )
    assert back.within_s == 7_200.0


def test_the_manifest_and_the_deciders_know_the_same_words() -> None:
    assert set(get_args(Action.model_fields["do"].annotation)) == {
        kind.value for kind in ActionKind
    }
    assert set(get_args(Severity)) == {severity.value for severity in Severities}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes:\n  - {name: a, to: {kind: webhook}}", 'to needs one of "url" and "url_env"'),
        ("routes:\n  - {name: a, to: {kind: webhook, url: 'http://u:p@x/'}}", "without a user"),
        ("routes:\n  - {name: a, to: {kind: webhook, url: 'http://x:99999/'}}", "http or https"),
        ("routes:\n  - {name: a, to: {kind: slack, url_env: 'a b'}}", "never the secret itself"),
        ("routes:\n  - {name: a, to: {kind: slack, url_env: PROVIDER_KEY}}", "begin with ALERT_"),
        ("routes:\n  - {name: a, to: {kind: slack, url_env: ALERT_}}", "begin with ALERT_"),
        (
            "routes:\n  - {name: a, to: {kind: email, host: h, sender: a@b.example,"
            " to: [a@b.example], security: none, user_env: ALERT_U, password_env: ALERT_P}}",
            "a password would be sent as it is",
        ),
        (
            "routes:\n  - {name: a, to: {kind: email, host: h, sender: a@b.example,"
            " to: [a@b.example], user_env: ALERT_U}}",
            "needs user_env and password_env",
        ),
        (
            "routes:\n  - {name: a, to: {kind: slack, url_env: ALERT_A}}\n"
            "  - {name: a, to: {kind: slack, url_env: ALERT_B}}",
            "is the name of an earlier route",
        ),
        ("actions:\n  - {do: roll_back, monitors: [monitor_blind]}", "because nobody sees"),
        ("actions:\n  - {do: roll_back, monitors: [slo], replicas_more: 2}", 'only for "scale"'),
        ("actions:\n  - {do: scale, monitors: [slo], within_hours: 2}", 'only for "roll_back"'),
        (
            "actions:\n  - {do: roll_back, monitors: [slo, quality]}\n"
            "  - {do: roll_back, monitors: [quality, slo], dry_run: true}",
            "actions[1].do does the same for the same monitors as actions[0]",
        ),
        ("actions:\n  - {do: roll_back, monitors: [slos]}", 'did you mean "slo"?'),
        ("actions:\n  - {do: roll_back, monitors: [weather]}", "(there are: slo, latency, "),
        (
            "routes:\n  - {name: a, to: {kind: email, host: 'h:25', sender: a@b.example,"
            " to: [a@b.example]}}",
            "to.host must be a host that mail is sent to: 'h:25' is no host name",
        ),
        (
            "routes:\n  - {name: a, to: {kind: email, host: 169.254.169.254,"
            " sender: a@b.example, to: [a@b.example]}}",
            "is not an address that requests are sent to",
        ),
        ("actions:\n  - {do: rerun_gate, monitors: [slo]}", "needs `gates`"),
        ("actions:\n  - {do: add_cases, monitors: [drift]}", "needs `capture` that keeps prompts"),
        ("actions:\n  - {do: scale, monitors: [slo], cases: 3}", 'only for "add_cases"'),
        (
            "actions:\n  - {do: add_cases, monitors: [drift], cases: 9}",
            "actions[0].cases must be at least 10, not 9: fewer let no release pass",
        ),
        (
            "actions:\n  - {do: roll_back, monitors: [slo], match: ['a=~(b']}",
            "match[0] is no regular expression: unclosed group",
        ),
        ("actions:\n  - {do: rollback, monitors: [slo]}", '"roll_back"'),
    ],
)
def test_what_makes_no_sense_is_said(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest(f"monitoring:\n  {text}\n")
    assert said in caught.value.message
