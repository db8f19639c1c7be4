"""A model that runs elsewhere, behind an OpenAI-compatible URL. Nothing is started for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fairlead.domain.errors import InvalidInput
from fairlead.domain.outbound import (
    DIRECT,
    Outbound,
    check_host,
    parse_proxy,
    without_credentials,
)
from fairlead.domain.release import Release, RemoteModel
from fairlead.domain.replica import Launch
from fairlead.engines.settings import read_settings, setting

ENGINE = "remote"
START_TIMEOUT_S = 15.0
"""Seconds after which an endpoint that has not answered yet is called unhealthy."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class RemoteSettings:
    """Part of the engine digest: another value is another release."""

    slots: int = setting(32, "Requests sent to it at the same time.", least=1, most=4096)
    probe_path: str = setting(
        "/models",
        "Path below the base URL that is read every few seconds to see that it answers; "
        "it should cost nothing.",
        least=1,
        most=1024,
    )

    def __post_init__(self) -> None:
        """Raises `InvalidInput` when the path is none."""
        if not self.probe_path.startswith("/") or not self.probe_path.isprintable():
            raise InvalidInput(
                f"engine {ENGINE}: setting `probe_path` is {self.probe_path!r}",
                hint="It begins with `/`, for instance `/models`.",
            )


class Remote:
    """Sends requests to a provider, with the key that an environment variable or a file holds."""

    kind = ENGINE

    def check(self, release: Release) -> None:
        """Raises `InvalidInput` when the release names no usable remote model."""
        read_settings(RemoteSettings, release.engine.settings, ENGINE)
        if not isinstance(release.model, RemoteModel):
            raise InvalidInput(
                f"engine {ENGINE} needs a remote model, but the release has weights",
                hint="Use the engine `llama.cpp` for them.",
            )
        _check_model(release.model)

    def launch(self, release: Release, weights: Sequence[Path]) -> Launch:
        """`weights` has to be empty. Raises `InvalidInput` as `check` does."""
        self.check(release)
        if not isinstance(release.model, RemoteModel) or weights:
            raise InvalidInput(f"engine {ENGINE} takes no weight files")
        settings = read_settings(RemoteSettings, release.engine.settings, ENGINE)
        return Launch(
            base_url=release.model.base_url.rstrip("/"),
            api_key_env=release.model.api_key_env,
            api_key_file=release.model.api_key_file,
            outbound=release.model.outbound or DIRECT,
            probe_path=settings.probe_path,
            slots=settings.slots,
            start_timeout_s=START_TIMEOUT_S,
        )


def _check_outbound(outbound: Outbound, host: str) -> None:
    try:
        check_host(host, link_local=outbound.link_local)
        if outbound.proxy is not None:
            parse_proxy(outbound.proxy)
    except ValueError as error:
        raise InvalidInput(
            f"engine {ENGINE}: {error}",
            hint="A host is written as a name or as a plain address; link_local: true allows "
            "link-local ones.",
        ) from None
    if outbound.proxy_auth_env and outbound.proxy is None:
        raise InvalidInput(f"engine {ENGINE}: proxy_auth_env is given without a proxy")


def _check_model(model: RemoteModel) -> None:
    try:
        url = urlsplit(model.base_url)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        port_is_fine = False
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_fine:
        raise InvalidInput(
            f"engine {ENGINE}: {without_credentials(model.base_url)!r} is not a base URL",
            hint="It looks like https://api.example.com/v1",
        )
    if url.username or url.password or url.query or url.fragment:
        raise InvalidInput(
            f"engine {ENGINE}: the base URL of {url.hostname} carries more than a path",
            hint="Keys are read from `api_key_env` or `api_key_file`; they do not stand in a URL.",
        )
    _check_outbound(model.outbound or DIRECT, url.hostname)
    if model.api_key_env and model.api_key_file:
        raise InvalidInput(f"engine {ENGINE}: both api_key_env and api_key_file are given")
    has_key = bool(model.api_key_env or model.api_key_file)
    if has_key and url.scheme == "http" and url.hostname not in LOOPBACK:
        raise InvalidInput(
            f"engine {ENGINE}: the key would go to {url.hostname} unencrypted",
            hint="Use https.",
        )
