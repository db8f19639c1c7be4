"""TLS on the gateway's front: one context for all connections, made before anything is served."""

from __future__ import annotations

import ssl
from pathlib import Path

from fairlead.domain.errors import InvalidInput
from fairlead.gateway.front.accepting import Tls
from fairlead.gateway.limits import TLS_HANDSHAKE_S, TLS_SHUTDOWN_S
from fairlead.gateway.settings import TlsFiles


def server_context(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """A context for TLS 1.2 and 1.3.

    Args:
        cert: PEM file with the certificate, followed by what its issuers' chain needs.
        key: PEM file with its private key, not encrypted.
        client_ca: PEM file with the authorities whose clients are let in; None lets in everybody.

    Raises:
        InvalidInput: A file cannot be read, is none of these, or key and certificate differ.
    """
    for path in (cert, key, *(() if client_ca is None else (client_ca,))):
        _require_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _Encrypted:
        raise InvalidInput(
            f"{key}: the private key is encrypted",
            hint="give one that is not: `openssl pkey -in FILE -out PLAIN`, readable by you alone",
        ) from None
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise InvalidInput(f"{key}: this is not the key of the certificate in {cert}") from None
        raise InvalidInput(
            f"{cert}, {key}: not a certificate and its key in PEM form: {reason or error}"
        ) from None
    if client_ca is not None:
        _ask_for_clients(context, client_ca)
    return context


def _ask_for_clients(context: ssl.SSLContext, client_ca: str) -> None:
    try:
        context.load_verify_locations(cafile=client_ca)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InvalidInput(f"{client_ca}: no certificates in PEM form: {reason}") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _require_readable(path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


class _Encrypted(Exception):
    """The key's file asks for a password, and a server has nobody to ask."""


def _no_password() -> str:
    raise _Encrypted


def serving_with(files: TlsFiles | None) -> Tls:
    """What the event loop is told of TLS; nothing without files. Raises as `server_context`."""
    if files is None:
        return {}
    return {
        "ssl": server_context(files.cert, files.key, files.client_ca),
        "ssl_handshake_timeout": TLS_HANDSHAKE_S,
        "ssl_shutdown_timeout": TLS_SHUTDOWN_S,
    }
