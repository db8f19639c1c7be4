"""Sends one message to one receiver, once. What went wrong never holds an address or a secret.

All of it takes `ATTEMPT_S` at the most. Each answer has a time of its own, and a server that sends
a byte now and then would be in time for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import smtplib
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fairlead.control.notify import rendering
from fairlead.control.notify.mail import Line, TlsContext, send_mail
from fairlead.control.notify.partly import Arrived
from fairlead.control.notify.signing import HEADER, sign
from fairlead.control.notify.threads import Threads, TooMany
from fairlead.domain.receivers import (
    Alertmanager,
    Apprise,
    Email,
    PagerDuty,
    Receiver,
    Slack,
    Webhook,
    withheld,
)
from fairlead.monitoring.telling import Message
from fairlead.targets.http import HttpFailed, request

TIMEOUT_S = 10.0
ATTEMPT_S = 60.0
_AGAIN = (408, 425, 429)


class NotSent(Exception):
    """It has not arrived.

    Attributes:
        is_final: Whether trying again is of no use.
        is_answered: Whether the receiver itself has said so.
        arrived: Fingerprints of alerts of the message that have arrived all the same; None where
            the receiver takes a message as a whole.
    """

    def __init__(
        self,
        why: str,
        *,
        is_final: bool = False,
        is_answered: bool = False,
        arrived: frozenset[str] | None = None,
    ) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.is_answered = is_answered
        self.arrived = arrived


class Sender:
    """Sends to receivers of every kind.

    Args:
        environ: Where secrets are found, by name; see `withheld`.
        clock: Unix time, for signatures.
        tls: Makes what mail servers' certificates are checked by.
        attempt_s: What a message may take in all.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        tls: TlsContext = ssl.create_default_context,
        attempt_s: float = ATTEMPT_S,
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._tls = tls
        self._attempt_s = attempt_s
        self._threads = Threads()
        self._arrived = Arrived(clock)

    async def send(self, receiver: Receiver, message: Message) -> int:
        """Send it, and return how many of several addresses refused it; raises NotSent if all."""
        try:
            async with asyncio.timeout(self._attempt_s):
                return await self._send(receiver, message)
        except TimeoutError:
            why, arrived = f"it took longer than {self._attempt_s:g} s", self._arrived.of(message)
            raise NotSent(why, arrived=arrived) from None
        except TooMany:
            raise NotSent("too many deliveries by mail and apprise go on at once") from None

    async def _send(self, receiver: Receiver, message: Message) -> int:
        match receiver:
            case Webhook():
                await self._webhook(receiver, message)
            case Slack():
                await self._post(self._url(message, receiver.url_env), rendering.slack(message))
            case PagerDuty():
                await self._events(receiver, message)
            case Alertmanager():
                url = f"{receiver.url.rstrip('/')}/api/v2/alerts"
                headers = {}
                if receiver.token_env is not None:
                    headers["authorization"] = f"Bearer {self._secret(message, receiver.token_env)}"
                await self._post(url, rendering.alertmanager(message), headers)
            case Email():
                return await self._mail(receiver, message)
            case Apprise():
                url = self._secret(message, receiver.url_env)
                await self._threads.run(lambda: _by_apprise(url, message))
        return 0

    async def _webhook(self, receiver: Webhook, message: Message) -> None:
        url = receiver.url
        if url is None:
            url = self._url(message, receiver.url_env or "")
        body = msgspec.json.encode(rendering.webhook(message))
        headers = {"x-fairlead-delivery": message.delivery}
        if receiver.secret_env is not None:
            secret = self._secret(message, receiver.secret_env)
            headers[HEADER] = sign(secret, body, self._clock())
        await _post(url, body, headers)

    async def _events(self, receiver: PagerDuty, message: Message) -> None:
        """Each event by itself: one that is refused holds up no other, and none is sent twice.

        Where the receiver does not answer at all, it is left alone with the others for now.
        """
        key = self._secret(message, receiver.key_env)
        alerts, arrived = (*message.firing, *message.resolved), self._arrived.of(message)
        failed = list[NotSent]()
        for alert, event in zip(alerts, rendering.pagerduty(message, key), strict=True):
            if alert.fingerprint in arrived:
                continue
            try:
                await self._post(receiver.url, event)
            except NotSent as error:
                failed.append(error)
                if not error.is_answered:
                    break
            else:
                self._arrived.note(message, alert)
        if not failed:
            self._arrived.end(message)
            return
        arrived = self._arrived.of(message)
        left = f" ({len(alerts) - len(arrived)} of {len(alerts)} alerts)" if arrived else ""
        is_final = all(error.is_final for error in failed)
        answered = failed[-1].is_answered
        raise NotSent(
            f"{failed[0]}{left}", is_final=is_final, is_answered=answered, arrived=arrived
        )

    async def _post(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
        await _post(url, msgspec.json.encode(body), headers or {})

    async def _mail(self, receiver: Email, message: Message) -> int:
        login = None
        if receiver.user_env is not None and receiver.password_env is not None:
            user, password = receiver.user_env, receiver.password_env
            login = self._secret(message, user), self._secret(message, password)
        mail, line = rendering.mail(message, receiver), Line()
        try:
            return await self._threads.run(
                lambda: send_mail(mail, receiver, login, self._tls, line)
            )
        except smtplib.SMTPResponseException as error:
            final = 500 <= error.smtp_code < 600
            raise NotSent(f"{receiver.host} answered {error.smtp_code}", is_final=final) from None
        except smtplib.SMTPRecipientsRefused:
            raise NotSent(f"{receiver.host} takes no mail for these", is_final=True) from None
        except smtplib.SMTPNotSupportedError as error:
            raise NotSent(f"{receiver.host}: {error}", is_final=True) from None
        except ssl.SSLCertVerificationError as error:
            why = f"{receiver.host}: its certificate is not trusted ({error.verify_message})"
            raise NotSent(why, is_final=True) from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise NotSent(f"{receiver.host}: {type(error).__name__}") from None
        finally:
            line.end()

    def _secret(self, message: Message, name: str) -> str:
        """What a variable holds, for the service whose route this is."""
        service = message.receiver.partition("/")[0]
        if why := withheld(name, service, self._environ):
            raise NotSent(f"the environment variable {name} {why}", is_final=True)
        value = self._environ.get(name, "").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise NotSent(f"there is nothing usable in the environment variable {name}")
        return value

    def _url(self, message: Message, name: str) -> str:
        url = self._secret(message, name)
        if not _is_address(url):
            raise NotSent(f"the environment variable {name} holds no http or https address")
        return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as half an IPv6 address, or a port that is no number
        return False


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    host = urlsplit(url).hostname
    try:
        answer = await request(url, body=body, headers=headers, timeout_s=TIMEOUT_S)
    except HttpFailed as error:
        why = f"no answer within {TIMEOUT_S:g} s" if error.is_late else "not reached"
        raise NotSent(f"{host}: {why}") from None
    if 200 <= answer.status < 300:
        return
    is_final = 300 <= answer.status < 500 and answer.status not in _AGAIN
    raise NotSent(f"{host}: answered {answer.status}", is_final=is_final, is_answered=True)


def _by_apprise(url: str, message: Message) -> None:
    """It takes up to a second to import, and waits for its answers: not on the event loop."""
    try:
        import apprise
    except ImportError:
        raise NotSent("apprise is not installed: pip install fairlead[apprise]") from None
    # What it logs can hold addresses, and with them secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    service = apprise.Apprise()
    if not service.add(url):
        raise NotSent("apprise does not know this kind of address", is_final=True)
    said = rendering.for_chats
    if not service.notify(
        title=rendering.title(message, said),
        body=rendering.text(message, said),
        body_format=apprise.NotifyFormat.TEXT,
    ):
        raise NotSent("apprise could not deliver it")
