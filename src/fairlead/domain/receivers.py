"""Who can be told of alerts, and where they are. Secrets are named by environment variables.

Whoever writes a manifest says where alerts go. So that this is no way to have other secrets sent
there, of the environment only what is named `ALERT_...` is given to receivers. Who runs fairlead
for several teams says for which services each of these is: by a variable of the same name with
`_FOR` behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

SECRETS = "ALERT_"
"""How the names of their environment variables begin."""

SCOPE = "_FOR"
"""How the name of a variable ends that says for which services another one is."""


class Webhook(msgspec.Struct, frozen=True, tag="webhook", forbid_unknown_fields=True):
    """A POST with a JSON body, signed where there is a secret.

    Attributes:
        url, url_env: Where, or the environment variable that says so; one of the two.
        secret_env: Environment variable with the secret of the signature; None for unsigned.
    """

    url: str | None = None
    url_env: str | None = None
    secret_env: str | None = None


class Slack(msgspec.Struct, frozen=True, tag="slack", forbid_unknown_fields=True):
    """A webhook that takes what Slack's incoming webhooks take; its address is the secret."""

    url_env: str


class PagerDuty(msgspec.Struct, frozen=True, tag="pagerduty", forbid_unknown_fields=True):
    """The Events API v2, of PagerDuty or of another service that has it.

    Attributes:
        key_env: Environment variable with the integration's routing key.
    """

    key_env: str
    url: str = "https://events.pagerduty.com/v2/enqueue"


class Email(msgspec.Struct, frozen=True, tag="email", forbid_unknown_fields=True):
    """Mail by SMTP.

    Attributes:
        sender, to: Addresses.
        security: `starttls`, `tls` (from the first byte on) or `none`.
        user_env, password_env: Environment variables with what it logs in by; None not to.
    """

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    security: str = "starttls"
    user_env: str | None = None
    password_env: str | None = None


class Alertmanager(msgspec.Struct, frozen=True, tag="alertmanager", forbid_unknown_fields=True):
    """An Alertmanager's API v2; it groups, silences and repeats for itself.

    Attributes:
        url: Its address, without `/api/v2`.
        token_env: Environment variable with a bearer token; None for none.
    """

    url: str
    token_env: str | None = None


class Apprise(msgspec.Struct, frozen=True, tag="apprise", forbid_unknown_fields=True):
    """Any other service, by the package apprise (`pip install fairlead[apprise]`).

    Attributes:
        url_env: Environment variable with an address as apprise writes them.
    """

    url_env: str


Receiver = Webhook | Slack | PagerDuty | Email | Alertmanager | Apprise


def is_theirs(variable: str) -> bool:
    """Whether a receiver may be given the environment variable of this name."""
    is_named_so = variable.startswith(SECRETS) and len(variable) > len(SECRETS)
    return is_named_so and not is_scope(variable)


def is_scope(variable: str) -> bool:
    """Whether a variable of this name says for which services another one is."""
    return variable.startswith(SECRETS) and variable[len(SECRETS) :].endswith(SCOPE)


def withheld(variable: str, service: str, environ: Mapping[str, str]) -> str:
    """Why a receiver of this service is not given this variable; empty if it is.

    Where nothing in the environment says for which services a variable is, each is for all of them.
    Once something does, a variable of which nothing is said is for nobody.
    """
    if not is_theirs(variable):
        return f"is not given to receivers: only what is named {SECRETS}... is"
    scope = f"{variable}{SCOPE}"
    if scope in environ:
        names = re.split(r"[\s,]+", environ[scope].strip())
        if any(fnmatchcase(service, name) for name in names):
            return ""
        return f"is not for the service {service}: {scope} does not name it"
    if any(map(is_scope, environ)):
        return f"is for no service: {scope} has to say for which it is, as is said of others"
    return ""
