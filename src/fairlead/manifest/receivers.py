"""Who can be told of alerts, as the manifest says it; secrets only by name, of the environment."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fairlead.domain import receivers
from fairlead.domain.outbound import check_host
from fairlead.manifest.values import Strict, wrong

_ADDRESS = r"^[^\s@<>,;:\"]{1,64}@[^\s@<>,;:\"]{1,190}$"
_ENV_PATTERN = rf"^{receivers.SECRETS}(?!\w*{receivers.SCOPE}$)[A-Za-z0-9_]+$"


def _http(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise wrong("must be an http or https address") from None
    plain = value.isascii() and value.isprintable() and " " not in value
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or not plain:
        raise wrong("must be an http or https address without a user in it")
    try:
        check_host(host)
    except ValueError as error:
        raise wrong(f"must not lead there: {error}") from None
    return value


def _host(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        check_host(value.lower())
    except ValueError as error:
        raise wrong(f"must be a host that mail is sent to: {error}") from None
    return value.lower()


def _env(value: object) -> object:
    if isinstance(value, str) and not (value.isidentifier() and value.isascii()):
        raise wrong("must be the name of an environment variable (never the secret itself)")
    if isinstance(value, str) and receivers.is_scope(value):
        raise wrong(
            f"must not end with {receivers.SCOPE}: such a variable says for which services another "
            "one is"
        )
    if isinstance(value, str) and not receivers.is_theirs(value):
        raise wrong(
            f"must begin with {receivers.SECRETS}, such as {receivers.SECRETS}SLACK_URL: receivers "
            "are given no other variable of the environment; name yours so"
        )
    return value


Url = Annotated[
    str, BeforeValidator(_http), Field(max_length=2_000), WithJsonSchema({"type": "string"})
]
Env = Annotated[
    str,
    BeforeValidator(_env),
    Field(max_length=128),
    WithJsonSchema({"type": "string", "pattern": _ENV_PATTERN}),
]
Host = Annotated[str, BeforeValidator(_host)]
Address = Annotated[str, Field(pattern=_ADDRESS)]


class Webhook(Strict):
    """A POST with a JSON body."""

    kind: Literal["webhook"] = Field(description="A POST with a JSON body, signed.")
    url: Url | None = Field(default=None, description="Where it is posted.")
    url_env: Env | None = Field(
        default=None, description="Environment variable that holds the address, in place of `url`."
    )
    secret_env: Env | None = Field(
        default=None,
        description=(
            "Environment variable with a secret: each call is signed with it (HMAC-SHA256 over "
            "time and body, in `x-fairlead-signature`)."
        ),
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Webhook:
        if (self.url is None) == (self.url_env is None):
            raise wrong('needs one of "url" and "url_env"')
        return self

    @property
    def receiver(self) -> receivers.Webhook:
        """The same as the rest of the program has it."""
        return receivers.Webhook(self.url, self.url_env, self.secret_env)


class Slack(Strict):
    """A Slack-compatible webhook."""

    kind: Literal["slack"] = Field(
        description="What takes Slack's incoming webhooks: Slack, Mattermost, Rocket.Chat."
    )
    url_env: Env = Field(description="Environment variable that holds the webhook's address.")

    @property
    def receiver(self) -> receivers.Slack:
        """The same as the rest of the program has it."""
        return receivers.Slack(self.url_env)


class PagerDuty(Strict):
    """PagerDuty's Events API v2."""

    kind: Literal["pagerduty"] = Field(description="PagerDuty, or what has its Events API v2.")
    key_env: Env = Field(description="Environment variable with the integration's routing key.")
    url: Url = Field(
        default="https://events.pagerduty.com/v2/enqueue", description="Where events are posted."
    )

    @property
    def receiver(self) -> receivers.PagerDuty:
        """The same as the rest of the program has it."""
        return receivers.PagerDuty(self.key_env, self.url)


class Email(Strict):
    """Mail by SMTP."""

    kind: Literal["email"] = Field(description="Mail by SMTP.")
    host: Host = Field(min_length=1, max_length=253, description="The mail server.")
    port: int = Field(default=587, ge=1, le=65_535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="starttls, tls from the first byte on, or none (for a server on this machine).",
    )
    sender: Address = Field(description="Address that mails come from.")
    to: tuple[Address, ...] = Field(
        strict=False, min_length=1, max_length=20, description="Addresses that get them."
    )
    user_env: Env | None = Field(default=None, description="Environment variable with the user.")
    password_env: Env | None = Field(
        default=None, description="Environment variable with the password."
    )

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Email:
        if (self.user_env is None) != (self.password_env is None):
            raise wrong("needs user_env and password_env, or neither")
        if self.security == "none" and self.password_env is not None:
            raise wrong("must not be none: a password would be sent as it is", at=("security",))
        return self

    @property
    def receiver(self) -> receivers.Email:
        """The same as the rest of the program has it."""
        return receivers.Email(
            self.host,
            self.sender,
            self.to,
            self.port,
            self.security,
            self.user_env,
            self.password_env,
        )


class Alertmanager(Strict):
    """An Alertmanager."""

    kind: Literal["alertmanager"] = Field(
        description="Prometheus' Alertmanager, which groups, silences and routes by itself."
    )
    url: Url = Field(description="Its address, such as http://alertmanager:9093.")
    token_env: Env | None = Field(
        default=None, description="Environment variable with a bearer token."
    )

    @property
    def receiver(self) -> receivers.Alertmanager:
        """The same as the rest of the program has it."""
        return receivers.Alertmanager(self.url, self.token_env)


class Apprise(Strict):
    """Any other service, by apprise."""

    kind: Literal["apprise"] = Field(
        description="Any other service that the package apprise knows (an extra of fairlead)."
    )
    url_env: Env = Field(description="Environment variable with apprise's address of it.")

    @property
    def receiver(self) -> receivers.Apprise:
        """The same as the rest of the program has it."""
        return receivers.Apprise(self.url_env)


Receiver = Annotated[
    Webhook | Slack | PagerDuty | Email | Alertmanager | Apprise, Field(discriminator="kind")
]
