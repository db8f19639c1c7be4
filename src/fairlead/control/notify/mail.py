"""One mail by SMTP, with the standard library, off the event loop."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from email.message import EmailMessage

from fairlead.domain.outbound import allowed, check_host
from fairlead.domain.receivers import Email

TIMEOUT_S = 20.0
TlsContext = Callable[[], ssl.SSLContext]


class Line:
    """The connection of one mail, which another thread can end: whoever reads it stops then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: socket.socket | None = None
        self._is_ended = False

    def hold(self, made: socket.socket) -> None:
        """Know it, also after TLS has taken it over; raises OSError if it is ended already."""
        with self._lock:
            if self._is_ended:
                made.close()
                raise OSError("it was given up")
            self._end = made.dup()

    def end(self) -> None:
        """End it, if there is one, and what comes after it."""
        with self._lock:
            self._is_ended = True
            if self._end is not None:
                with contextlib.suppress(OSError):  # It has ended by itself.
                    self._end.shutdown(socket.SHUT_RDWR)
                self._end.close()
                self._end = None


class _Mail(smtplib.SMTP):
    """Connects only where outgoing connections may go, whatever a name leads to."""

    def __init__(self, line: Line, receiver: Email) -> None:
        self._line = line
        smtplib.SMTP.__init__(self, receiver.host, receiver.port, timeout=TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = _connected(host, port, timeout)
        self._line.hold(made)
        return made


class _TlsMail(smtplib.SMTP_SSL, _Mail):
    """The same, with TLS from the first byte on."""

    def __init__(self, line: Line, receiver: Email, context: ssl.SSLContext) -> None:
        self._line = line
        smtplib.SMTP_SSL.__init__(
            self, receiver.host, receiver.port, timeout=TIMEOUT_S, context=context
        )


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failed: OSError | None = None
    for address in allowed(str(entry[4][0]) for entry in found):
        try:
            return socket.create_connection((address, port), timeout)
        except OSError as error:
            failed = error
    raise failed or OSError("it has no address that mail is sent to")


def send_mail(
    mail: EmailMessage,
    receiver: Email,
    login: tuple[str, str] | None,
    tls: TlsContext,
    line: Line,
) -> int:
    """Send it, or raise: OSError, `smtplib.SMTPException`, or ValueError for a host that is none.

    Nothing is sent, least of all a password, before the connection is what `security` says. A mail
    that only some of its addresses take has been sent; what is returned is how many refused it.

    Args:
        line: By which it can be ended; each answer may take `TIMEOUT_S`, and each byte of it again.
    """
    check_host(receiver.host)
    if receiver.security == "tls":
        with _TlsMail(line, receiver, tls()) as smtp:
            return _send(smtp, mail, login)
    with _Mail(line, receiver) as smtp:
        if receiver.security == "starttls":
            smtp.starttls(context=tls())
        return _send(smtp, mail, login)


def _send(smtp: smtplib.SMTP, mail: EmailMessage, login: tuple[str, str] | None) -> int:
    if login is not None:
        smtp.login(*login)
    return len(smtp.send_message(mail))
