"""`fairlead feedback`: say of an answer whether it was good."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Annotated
from urllib.parse import urlsplit

import typer

from fairlead.app.state import StatePaths
from fairlead.cli.api import error_of_status
from fairlead.cli.options import STATE_DEFAULT, StateOption, console
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.gateway.settings import TlsFiles

_WORDS = {"true": True, "yes": True, "good": True, "false": False, "no": False, "bad": False}


def register(app: typer.Typer) -> None:
    app.command()(feedback)


def feedback(
    request: Annotated[str, typer.Argument(help="The answer's x-request-id.")],
    value: Annotated[str, typer.Argument(help="true, false or a number.")],
    key: Annotated[
        str,
        typer.Option(
            envvar="FAIRLEAD_API_KEY",
            help="The key that made the request. Better in the variable: others can see a command "
            "line.",
        ),
    ],
    name: Annotated[str, typer.Option(help="What is judged.")] = "success",
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Send feedback on one answer, with the key that made the request."""
    if not key.isascii() or not key.isprintable():
        raise InvalidInput(
            "the key has characters that no key has",
            hint="it is the text that begins with fl-, without a line break",
        )
    up = StatePaths(state).require_up()
    netloc = urlsplit(up.gateway_url).netloc
    connection = _connection(netloc, up.tls)
    body = json.dumps({"request_id": request, "name": name, "value": _value(value)})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/feedback", body, headers)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the gateway at {netloc} does not answer: {error}") from None
    finally:
        connection.close()
    if response.status != 202:
        raise error_of_status(response.status, _message(data, response.status))
    console.print("noted")


def _connection(netloc: str, tls: TlsFiles | None) -> http.client.HTTPConnection:
    """To this machine's gateway; over TLS, to the one with the very certificate it runs with."""
    if tls is None:
        return http.client.HTTPConnection(netloc, timeout=10)
    if tls.client_ca is not None:
        raise Unavailable(
            "the gateway asks for a client's certificate, and this command has none",
            hint="send it yourself: POST /v1/feedback, with your certificate",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=tls.cert)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"{tls.cert}: {error.strerror or error}") from None
    return http.client.HTTPSConnection(netloc, timeout=10, context=context)


def _value(word: str) -> bool | float:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        return float(word)
    except ValueError:
        raise InvalidInput(f"{word!r} is neither true, false nor a number") from None


def _message(data: bytes, status: int) -> str:
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the gateway answered {status}"
