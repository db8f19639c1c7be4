"""Sockets that children inherit, and where they are reached."""

from __future__ import annotations

import contextlib
import errno
import socket

from fairlead.domain.errors import Unavailable

BACKLOG = 1024


def listen(
    host: str, port: int, what: str, option: str, *, host_option: str = "--host"
) -> socket.socket:
    """A listening socket that children inherit; raises Unavailable.

    Args:
        what: Who listens, for the message.
        option, host_option: What chooses another port, and another address.
    """
    with contextlib.ExitStack() as undo:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise Unavailable(
                f"{what}: cannot listen on {host}:{port}: {reason or error}",
                hint=_listen_hint(error, option, host_option),
            ) from None
        undo.pop_all()
    listening.set_inheritable(True)
    return listening


def _listen_hint(error: Exception, option: str, host_option: str) -> str:
    """What to do about it: the port can be wrong, or the address."""
    if isinstance(error, OverflowError):
        return f"choose a port from 0 to 65535 with {option}"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
        if error.errno == errno.EADDRINUSE:
            return f"is another program using it? choose another port with {option}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"ports below 1024 are reserved; choose another port with {option}"
    return f"choose an address of this machine with {host_option}, or 127.0.0.1"


def url_of(host: str, listening: socket.socket, *, is_tls: bool = False) -> str:
    """Where a listening socket is reached."""
    port = listening.getsockname()[1]
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def reached_at(host: str) -> str:
    """The address by which processes of this machine reach what listens on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
