"""One mail by SMTP, with the standard library, off the event loop."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage

from fairlead.domain.outbound import check_host
from fairlead.domain.receivers import Email

TIMEOUT_S = 20.0
TlsContext = Callable[[], ssl.SSLContext]


def send_mail(
    mail: EmailMessage,
    receiver: Email,
    login: tuple[str, str] | None,
    tls: TlsContext = ssl.create_default_context,
) -> None:
    """Send it, or raise: OSError, `smtplib.SMTPException`, or ValueError for a host that is none.

    Nothing is sent, least of all a password, before the connection is what `security` says. A mail
    that only some of its addresses take has been sent.
    """
    check_host(receiver.host)
    if receiver.security == "tls":
        with smtplib.SMTP_SSL(
            receiver.host, receiver.port, timeout=TIMEOUT_S, context=tls()
        ) as smtp:
            _send(smtp, mail, login)
        return
    with smtplib.SMTP(receiver.host, receiver.port, timeout=TIMEOUT_S) as smtp:
        if receiver.security == "starttls":
            smtp.starttls(context=tls())
        _send(smtp, mail, login)


def _send(smtp: smtplib.SMTP, mail: EmailMessage, login: tuple[str, str] | None) -> None:
    if login is not None:
        smtp.login(*login)
    smtp.send_message(mail)
