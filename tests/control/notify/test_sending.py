"""Every kind of receiver, over real sockets; and what is never said."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import msgspec
import pytest

from control.notify.receiving import Dripping, HttpReceiver, MailServer
from control.notify.telling import T0, firing, resolved, several
from fairlead.control.notify import rendering, sending
from fairlead.control.notify.partly import AGAIN_S
from fairlead.control.notify.sending import NotSent, Sender
from fairlead.control.notify.signing import is_signed, sign
from fairlead.control.notify.threads import Threads, TooMany
from fairlead.domain.receivers import (
    Alertmanager,
    Apprise,
    Email,
    PagerDuty,
    Receiver,
    Slack,
    Webhook,
)
from fairlead.monitoring.runbooks import runbook_of
from fairlead.targets.http import HttpFailed
from support.tls import Authority

SECRET = "s3cret-of-the-hook"


def sender(**environ: str) -> Sender:
    return Sender(environ, lambda: T0)


async def test_a_webhook_is_signed_over_time_and_body(http: HttpReceiver) -> None:
    receiver = Webhook(f"{http.url}/alerts", secret_env="ALERT_HOOK")
    await sender(ALERT_HOOK=SECRET).send(receiver, firing())
    (call,) = http.calls
    header = call.headers["x-fairlead-signature"]
    assert is_signed(SECRET, call.body, header, T0 + 10.0)
    assert not is_signed(SECRET, call.body + b" ", header, T0)
    assert not is_signed("another", call.body, header, T0)
    assert not is_signed(SECRET, call.body, header, T0 + 301.0)
    body = call.json
    assert (body["status"], body["severity"], body["labels"]["service"]) == (
        "firing", "page", "bank",
    )  # fmt: skip
    (alert,) = body["alerts"]
    assert alert["evidence"][0] == {
        "name": "burn rate over 1 h", "value": 20.0, "unit": "", "limit": 14.4,
    }  # fmt: skip
    assert alert["causes"] == ["release b promoted, 4 min before (same service)"]
    assert call.headers["x-fairlead-delivery"] == body["delivery"] == firing().delivery


@pytest.mark.parametrize("header", ["", "t=1", "v1=00", f"t=x,v1={'0' * 64}", "t=1,v1=é"])
def test_what_is_no_signature_is_none(header: str) -> None:
    assert not is_signed(SECRET, b"", header, 1.0)
    assert is_signed(SECRET, b"", sign(SECRET, b"", 1.0), 1.0)


async def test_other_variables_of_the_environment_are_given_to_nobody(http: HttpReceiver) -> None:
    """Also where a manifest that was kept before names one."""
    environ = {"PROVIDER_KEY": "s3cret", "ALERT_": http.url, "OTHER": http.url}
    for receiver in (
        Webhook(http.url, secret_env="PROVIDER_KEY"),
        PagerDuty("PROVIDER_KEY", http.url),
        Slack("OTHER"),
        Slack("ALERT_"),
        Alertmanager(http.url, "PROVIDER_KEY"),
    ):
        with pytest.raises(NotSent, match=r"only what is named ALERT_\.\.\. is") as refused:
            await sender(**environ).send(receiver, firing())
        assert refused.value.is_final
        assert "s3cret" not in str(refused.value)
    assert http.calls == []


async def test_a_secret_that_is_for_other_services_is_not_given_to_this_one(
    http: HttpReceiver,
) -> None:
    """Else one team could have another one's sent to an address of its own."""
    environ = {"ALERT_BANK": "s3cret", "ALERT_BANK_FOR": "bank", "ALERT_PLACE": http.url}
    for receiver in (
        PagerDuty("ALERT_BANK", http.url),
        Alertmanager(http.url, "ALERT_BANK"),
        Webhook(http.url, secret_env="ALERT_BANK"),
        Slack("ALERT_PLACE"),
    ):
        with pytest.raises(NotSent, match=r"is not for the service shop|is for no service") as told:
            await sender(**environ).send(receiver, firing(receiver="shop/ops"))
        assert told.value.is_final
        assert "s3cret" not in str(told.value)
    assert http.calls == []
    await sender(**environ).send(PagerDuty("ALERT_BANK", http.url), firing(receiver="bank/ops"))
    assert http.calls[0].json["routing_key"] == "s3cret"


async def test_a_webhook_without_a_secret_is_unsigned(http: HttpReceiver) -> None:
    await sender(ALERT_PLACE=http.url).send(Webhook(url_env="ALERT_PLACE"), firing())
    assert "x-fairlead-signature" not in http.calls[0].headers


async def test_slack_gets_text_in_which_nothing_is_markup(http: HttpReceiver) -> None:
    message = firing(summary="bank: <!channel> & more")
    await sender(ALERT_SLACK=f"{http.url}/T0/B0/X").send(Slack("ALERT_SLACK"), message)
    text = http.calls[0].json["text"]
    assert "bank: &lt;!channel&gt; &amp; more" in text
    assert "burn rate over 1 h: 20 (limit 14.4)" in text
    assert "changed near it: release b promoted" in text
    (alert,) = message.firing
    assert f"more: fairlead alerts show {alert.fingerprint[:8]}\n" in text


CALLS = (
    "@channel *b* _i_ ~s~ `c` ![x](http://evil.example/p) [a](https://evil.example) service_down"
)


async def test_chats_call_nobody_and_load_nothing_by_what_others_wrote(http: HttpReceiver) -> None:
    """Mattermost and Rocket.Chat take plain @all for everybody, and load pictures."""
    await sender(ALERT_SLACK=http.url).send(Slack("ALERT_SLACK"), firing(summary=f"bank: {CALLS}"))
    body = http.calls[0].json
    text = body["text"]
    assert "@\u200bchannel" in text
    for live in ("@channel", "*", "`", "~", "_i", "i_", "](", "://evil"):
        assert live not in text
    assert "service_down" in text, "within a name it is no markup"
    assert "https://runbooks.example/slo" in text, "what is declared can be followed"
    assert body["unfurl_links"] is body["unfurl_media"] is False


async def test_a_message_shows_how_the_first_figure_went(http: HttpReceiver) -> None:
    slack = sender(ALERT_SLACK=http.url)
    await slack.send(Slack("ALERT_SLACK"), firing())
    (alert,) = firing().firing
    course = ((T0, 1.0), (T0 + 60.0, 4.5), (T0 + 120.0, 8.0))
    told = msgspec.structs.replace(alert, course=course)
    await slack.send(Slack("ALERT_SLACK"), msgspec.structs.replace(firing(), firing=(told,)))
    await slack.send(Slack("ALERT_SLACK"), msgspec.structs.replace(firing(), firing=(
        msgspec.structs.replace(told, evidence=()),
    )))  # fmt: skip
    short, long, bare = (call.json["text"] for call in http.calls)
    assert "burn rate over 1 h: ▁▅█ over 2 min" in long
    assert "█" not in short + bare, "one point is no course"


async def test_an_end_is_told_with_its_time_and_how_long_it_lasted(http: HttpReceiver) -> None:
    await sender(ALERT_SLACK=http.url).send(Slack("ALERT_SLACK"), resolved())
    await sender().send(Webhook(http.url), resolved())
    await sender().send(Webhook(http.url), firing())
    said, ended, goes_on = (call.json for call in http.calls)
    assert "until 2026-01-01T00:06:40.000Z, after 7 min" in said["text"]
    assert ended["alerts"][0]["ended"] == T0 + 400.0
    assert goes_on["alerts"][0]["ended"] is None


async def test_pagerduty_gets_an_event_for_each_alert_and_its_end(http: HttpReceiver) -> None:
    receiver = PagerDuty("ALERT_PD", f"{http.url}/v2/enqueue")
    await sender(ALERT_PD="routing").send(receiver, firing())
    await sender(ALERT_PD="routing").send(receiver, resolved())
    opened, closed = (call.json for call in http.calls)
    assert opened["routing_key"] == closed["routing_key"] == "routing"
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"]
    assert opened["payload"]["severity"] == "critical"
    assert opened["payload"]["summary"] == "bank: availability burns its budget"
    assert opened["payload"]["timestamp"] == "2026-01-01T00:00:00.000Z"
    assert opened["links"] == [{"href": "https://runbooks.example/slo", "text": "runbook"}]


async def test_an_event_that_is_refused_holds_up_no_other_and_is_tried_again_alone(
    http: HttpReceiver,
) -> None:
    pager, receiver = sender(ALERT_PD="routing"), PagerDuty("ALERT_PD", http.url)
    message = several("availability", "ttft", "itl")
    first, second, third = (alert.fingerprint for alert in message.firing)
    http.answers = [200, 400, 200]
    with pytest.raises(NotSent, match=r"answered 400 \(1 of 3 alerts\)") as refused:
        await pager.send(receiver, message)
    assert refused.value.is_final
    assert refused.value.arrived == {first, third}
    assert await pager.send(receiver, message) == 0
    keys = [call.json["dedup_key"].removeprefix("fairlead/") for call in http.calls]
    assert keys == [first, second, third, second]
    await pager.send(receiver, message)
    assert len(http.calls) == 7, "what is told again is told as a whole"
    http.answers = [400, 503]
    with pytest.raises(NotSent) as refused:
        await pager.send(receiver, several("availability", "ttft"))
    assert not refused.value.is_final, "one of both may arrive yet"


async def test_what_has_arrived_is_said_again_in_time_though_others_are_refused(
    http: HttpReceiver,
) -> None:
    """Somebody may have closed it over there while it goes on."""
    now = [1_000.0]
    pager = Sender({"ALERT_PD": "routing"}, clock=lambda: now[0])
    receiver, message = PagerDuty("ALERT_PD", http.url), several("availability", "ttft")
    for at, calls in ((0.0, 2), (300.0, 3), (AGAIN_S + 1.0, 5)):
        now[0] = 1_000.0 + at
        http.answers = [200, 400] if calls in (2, 5) else [400]
        with pytest.raises(NotSent):
            await pager.send(receiver, message)
        assert len(http.calls) == calls


async def test_where_a_receiver_does_not_answer_its_other_events_wait(
    http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def gone(url: str, **_more: object) -> None:
        tried.append(url)
        raise HttpFailed("nobody there")

    monkeypatch.setattr(sending, "request", gone)
    with pytest.raises(NotSent, match="not reached") as failed:
        await sender(ALERT_PD="k").send(PagerDuty("ALERT_PD", http.url), several("ttft", "itl"))
    assert (len(tried), failed.value.arrived) == (1, frozenset())


async def test_an_alertmanager_gets_labels_annotations_and_times(http: HttpReceiver) -> None:
    await sender(ALERT_AM="token").send(Alertmanager(f"{http.url}/am/", "ALERT_AM"), firing())
    await sender().send(Alertmanager(http.url), resolved())
    first, second = http.calls
    assert (first.path, second.path) == ("/am/api/v2/alerts", "/api/v2/alerts")
    assert first.headers["authorization"] == "Bearer token"
    (alert,) = first.json
    assert alert["labels"] == {
        "alertname": "FairleadSlo", "severity": "page", "monitor": "slo", "service": "bank",
        "slo": "availability",
    }  # fmt: skip
    assert alert["endsAt"] == "2026-01-01T00:15:00.000Z"
    assert second.json[0]["endsAt"] == "2026-01-01T00:06:40.000Z"


def test_without_a_declared_runbook_messages_name_a_page_and_no_path() -> None:
    """A path is no link, and of a file's name some chats make one to somebody else."""
    (alert,) = firing().firing
    ours = msgspec.structs.replace(alert, runbook=runbook_of("slo", ""))
    message = msgspec.structs.replace(firing(), firing=(ours,))
    (event,) = rendering.pagerduty(message, "key")
    (known,) = rendering.alertmanager(message)
    assert "links" not in event
    assert "runbook_url" not in known["annotations"]
    place = 'fairlead\'s documentation, page "Alerts", "What to do": slo'
    assert known["annotations"]["runbook"] == place
    for said in (rendering.slack(message)["text"], rendering.text(message)):
        assert f"runbook: {place}" in said
    for form in (rendering.slack(message), rendering.webhook(message), event, known):
        assert ".md" not in str(form)
    (declared,) = rendering.alertmanager(firing())
    assert declared["annotations"]["runbook_url"] == "https://runbooks.example/slo"


by_apprise = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""It imports modules of the standard library that are on their way out."""


@by_apprise
async def test_apprise_delivers_to_what_it_knows(http: HttpReceiver) -> None:
    place = http.url.replace("http://", "json://")
    await sender(ALERT_PLACE=place).send(Apprise("ALERT_PLACE"), firing())
    body = http.calls[0].json
    assert body["title"] == "[page, 1 firing] bank: availability burns its budget"
    assert "burn rate over 1 h: 20 (limit 14.4)" in body["message"]
    await sender(ALERT_PLACE=place).send(Apprise("ALERT_PLACE"), firing(summary=f"bank: {CALLS}"))
    said = http.calls[1].json
    for live in ("@channel", "*b*", "](", "://evil"):
        assert live not in said["title"] + said["message"]


@by_apprise
async def test_apprise_is_told_that_it_is_plain_text(
    http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apprise

    given: list[object] = []
    monkeypatch.setattr(
        apprise.Apprise, "notify", lambda *_, **named: given.append(named["body_format"]) or True
    )
    place = http.url.replace("http://", "json://")
    await sender(ALERT_PLACE=place).send(Apprise("ALERT_PLACE"), firing())
    assert given == [apprise.NotifyFormat.TEXT]


@by_apprise
async def test_what_apprise_does_not_deliver_is_said_without_its_address(
    http: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    http.answers = [500]
    place = http.url.replace("http://", "json://user:SECRET@")
    for address, why in ((place, "could not deliver"), ("nothing:SECRET", "does not know")):
        with pytest.raises(NotSent, match=why) as caught:
            await sender(ALERT_PLACE=address).send(Apprise("ALERT_PLACE"), firing())
        assert "SECRET" not in f"{caught.value}{caplog.text}"


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(500, False), (503, False), (429, False), (400, True), (404, True), (302, True)],
)
async def test_what_may_help_is_tried_again_and_what_cannot_is_not(
    http: HttpReceiver, status: int, is_final: bool
) -> None:
    http.answers = [status]
    with pytest.raises(NotSent) as caught:
        await sender().send(Webhook(f"{http.url}/SECRET"), firing())
    assert caught.value.is_final is is_final
    assert str(caught.value) == f"127.0.0.1: answered {status}"


@pytest.mark.parametrize(
    "receiver",
    [
        Webhook("http://127.0.0.1:9/SECRET"),
        Webhook("http://127.0.0.1:9/x", secret_env="ALERT_NONE"),
        Slack("ALERT_NONE"),
        Slack("ALERT_KEY"),
        PagerDuty("ALERT_NEWLINE"),
        Webhook("http://169.254.169.254/SECRET"),
        Webhook("http://2130706433/SECRET"),
        Email("127.0.0.1", "a@example.org", ("b@example.org",), 9, "none"),
        Email("169.254.169.254", "a@example.org", ("b@example.org",)),
    ],
)
async def test_what_went_wrong_says_neither_address_nor_secret(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotSent) as caught:
        await sender(ALERT_KEY="SECRET", ALERT_NEWLINE="SECRET\nx").send(receiver, firing())
    assert "SECRET" not in f"{caught.value}{caught.value!r}{caplog.text}"


def mail_to(port: int, security: str = "none", **more: str) -> Email:
    to = ("ops@example.org", "ada@example.org")
    return Email("127.0.0.1", "fairlead@example.org", to, port, security, **more)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    made = MailServer()
    yield made
    made.close()


async def test_a_mail_says_all_in_plain_text_and_has_the_same_id_each_time(
    mail: MailServer,
) -> None:
    summary = "bank: slow\r\nBcc: everybody@example.org"
    for _ in range(2):
        await sender().send(mail_to(mail.port), firing(summary=summary))
    one, two = (message_from_string(text) for text in mail.mails)
    assert one["subject"] == "[page, 1 firing] bank: slow Bcc: everybody@example.org"
    assert one["bcc"] is None
    assert one["message-id"] == two["message-id"]
    assert one["to"] == "ops@example.org, ada@example.org"
    assert "burn rate over 1 h: 20 (limit 14.4)" in one.get_payload()
    assert sum(line.startswith("rcpt") for line in mail.said) == 4


async def test_no_mail_goes_where_a_cloud_keeps_its_secrets_whatever_the_name(
    mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["169.254.169.254"]

    def leads_to(_host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (place, port)) for place in places]

    with monkeypatch.context() as names:
        names.setattr("fairlead.control.notify.mail.socket.getaddrinfo", leads_to)
        with pytest.raises(NotSent):
            await sender().send(Email("mail.example", "a@b.c", ("d@e.f",), 25, "none"), firing())
    assert mail.said == []


@pytest.mark.parametrize("answer", ["452 full", "554 no"])
async def test_a_mail_that_is_refused_for_good_is_not_sent_again(
    mail: MailServer, answer: str
) -> None:
    mail.answer = answer
    with pytest.raises(NotSent) as caught:
        await sender().send(mail_to(mail.port), firing())
    assert caught.value.is_final is answer.startswith("5")


async def test_how_many_of_several_addresses_refuse_a_mail_is_said(mail: MailServer) -> None:
    assert await sender().send(mail_to(mail.port), firing()) == 0
    mail.refused = {"ada@example.org"}
    assert await sender().send(mail_to(mail.port), firing()) == 1
    assert len(mail.mails) == 2
    mail.refused = {"example.org"}
    with pytest.raises(NotSent) as caught:
        await sender().send(mail_to(mail.port), firing())
    assert caught.value.is_final


async def test_no_password_is_sent_to_a_server_without_tls(mail: MailServer) -> None:
    receiver = mail_to(mail.port, "starttls", user_env="ALERT_USER", password_env="ALERT_PASS")
    with pytest.raises(NotSent):
        await sender(ALERT_USER="u", PASS="SECRET").send(receiver, firing())
    assert mail.mails == []
    assert not any(line.upper().startswith("AUTH") for line in mail.said)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_goes_through_tls_to_a_server_that_is_trusted_only(
    authority: Authority, security: str
) -> None:
    server = MailServer(authority.server("127.0.0.1"), at_once=security == "tls")
    receiver = mail_to(server.port, security, user_env="ALERT_USER", password_env="ALERT_PASS")
    environ = {"ALERT_USER": "u", "ALERT_PASS": "p"}
    try:
        with pytest.raises(NotSent, match="not trusted"):
            await Sender(environ, lambda: T0).send(receiver, firing())
        assert not any(line.upper().startswith("AUTH") for line in server.said)
        trusted = Sender(
            environ, lambda: T0, lambda: ssl.create_default_context(cafile=str(authority.file))
        )
        await trusted.send(receiver, firing())
        assert server.secured == [True]
    finally:
        server.close()


@pytest.mark.parametrize("security", ["none", "tls"])
async def test_a_server_that_drips_is_given_up_in_time_and_its_thread_ends(security: str) -> None:
    """Each byte is in time, and there is no end to them."""
    begin = b"\x16\x03\x03\x40\x00" if security == "tls" else b""  # of a record that is long
    with Dripping(begin) as server:
        hasty = Sender({}, lambda: T0, attempt_s=0.3)
        began = time.monotonic()
        with pytest.raises(NotSent, match=r"it took longer than 0\.3 s") as caught:
            await hasty.send(mail_to(server.port, security), firing())
        assert time.monotonic() - began < 10.0
        assert not caught.value.is_final
        for thread in [one for one in threading.enumerate() if one.name == "notify"]:
            await asyncio.to_thread(thread.join, 10.0)
            assert not thread.is_alive(), "its connection was ended"


async def test_what_hangs_in_apprise_is_bounded_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread of another package cannot be ended; no more than so many are begun."""
    go_on = threading.Event()
    monkeypatch.setattr(
        "fairlead.control.notify.sending._by_apprise", lambda *_: go_on.wait(60.0) and None
    )
    monkeypatch.setattr("fairlead.control.notify.sending.Threads", lambda: Threads(2))
    hasty = Sender({"ALERT_PLACE": "json://x"}, lambda: T0, attempt_s=0.1)
    said = []
    for _ in range(3):
        with pytest.raises(NotSent) as caught:
            await hasty.send(Apprise("ALERT_PLACE"), firing())
        said.append(str(caught.value))
    assert said[:2] == ["it took longer than 0.1 s"] * 2
    assert "too many deliveries" in said[2]
    go_on.set()


async def test_a_thread_that_the_system_does_not_let_begin_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = Threads(1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TooMany):
            await threads.run(lambda: 1)
    assert await threads.run(lambda: 2) == 2


@pytest.mark.parametrize("url", ["ftp://x", "http://[::1", "https://", "http://x.example:y/"])
async def test_an_address_that_is_none_is_said_without_it(url: str) -> None:
    with pytest.raises(NotSent, match="the environment variable ALERT_HOOK holds no http") as told:
        await sender(ALERT_HOOK=url).send(Webhook(url_env="ALERT_HOOK"), firing())
    assert url not in str(told.value)
