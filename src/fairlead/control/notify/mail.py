"""One mail by SMTP, with the standard library, off the event loop."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable
from email.message import EmailMessage

from fairlead.domain.outbound import allowed, check_host
from fairlead.domain.receivers import Email

TIMEOUT_S = 20.0
TlsContext = Callable[[], ssl.SSLContext]


class _Mail(smtplib.SMTP):
    """Connects only where outgoing connections may go, whatever a name leads to."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failed: OSError | None = None
        for address in allowed(str(entry[4][0]) for entry in found):
            try:
                return socket.create_connection((address, port), timeout)
            except OSError as error:
                failed = error
        raise failed or OSError("it has no address that mail is sent to")


class _TlsMail(smtplib.SMTP_SSL, _Mail):
    """The same, with TLS from the first byte on."""


def send_mail(
    mail: EmailMessage,
    receiver: Email,
    login: tuple[str, str] | None,
    tls: TlsContext = ssl.create_default_context,
) -> int:
    """Send it, or raise: OSError, `smtplib.SMTPException`, or ValueError for a host that is none.

    Nothing is sent, least of all a password, before the connection is what `security` says. A mail
    that only some of its addresses take has been sent; what is returned is how many refused it.
    """
    check_host(receiver.host)
    if receiver.security == "tls":
        with _TlsMail(receiver.host, receiver.port, timeout=TIMEOUT_S, context=tls()) as smtp:
            return _send(smtp, mail, login)
    with _Mail(receiver.host, receiver.port, timeout=TIMEOUT_S) as smtp:
        if receiver.security == "starttls":
            smtp.starttls(context=tls())
        return _send(smtp, mail, login)


def _send(smtp: smtplib.SMTP, mail: EmailMessage, login: tuple[str, str] | None) -> int:
    if login is not None:
        smtp.login(*login)
    return len(smtp.send_message(mail))
