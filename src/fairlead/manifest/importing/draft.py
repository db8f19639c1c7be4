"""The gateway file while it is put together from another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from fairlead.manifest.gateway_file.addresses import Listen, Upstream, parse_replica
from fairlead.manifest.gateway_file.models import NO_KEYS, NOT_RECORDED, is_service_name
from fairlead.manifest.importing.limits import Limits
from fairlead.manifest.importing.section import Losses, Section
from fairlead.manifest.lines import Path
from fairlead.manifest.models import FALLBACKS_MAX
from fairlead.manifest.release import Sampling
from fairlead.manifest.values import is_label

ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
ATTEMPTS_MAX = 10
TIMEOUT_S_MAX = 86_400.0
SLOTS_MAX = 65_536
LOCAL = "127.0.0.1"
ENGINES = {"hosted_vllm": "vllm", "vllm": "vllm", "llamafile": "llama.cpp"}
"""Kinds of providers that are engines which can go on with a broken stream."""
_SAMPLING = frozenset(Sampling.model_fields)
_LIKE_A_NUMBER = re.compile(r"[-+.0-9][-+.0-9eEa-fA-FxXoO_:]*|~|null|Null|NULL")


@dataclass(frozen=True)
class DraftEndpoint:
    """One place that serves a release."""

    base_url: str
    key: str | None = None
    slots: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is sent there can be read on the way."""
        return Upstream(self.base_url).is_open


@dataclass
class DraftRelease:
    """A release, of one or more endpoints that serve the same.

    Attributes:
        kind: The kind of provider, by the other file's name.
        price: USD per million tokens, as the file has it.
        rates: What the other file says of its share, under each of several names.
    """

    kind: str
    model: str
    sampling: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    weight: float = 1.0
    name: str = ""
    endpoints: list[DraftEndpoint] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    price: dict[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """As the file has it, but for name and weight."""
        document: dict[str, Any] = {}
        keys = {endpoint.key for endpoint in self.endpoints}
        slots = {endpoint.slots for endpoint in self.endpoints}
        [first, *others] = self.endpoints
        if others or first.is_open:
            document["replicas"] = [
                _replica(e, has_key=len(keys) > 1, has_slots=len(slots) > 1) for e in self.endpoints
            ]
        else:
            document["url"] = first.base_url
        if self.model:
            document["model"] = self.model
        if len(slots) == 1 and first.slots is not None:
            document["slots"] = first.slots
        if len(keys) == 1 and first.key is not None:
            document["api_key_env"] = first.key
        if self.kind in ENGINES and len(self.endpoints) > 1:
            document["engine"] = ENGINES[self.kind]
        if self.price:
            document["price"] = {name: _plain(rate) for name, rate in self.price.items()}
        if self.system:
            document["prompt"] = {"system": self.system}
        if self.sampling:
            document["sampling"] = self.sampling
        return document


@dataclass
class DraftService:
    """A service.

    Attributes:
        attempt_timeout_s: How long one place may take to the first byte.
    """

    name: str
    releases: list[DraftRelease] = field(default_factory=list)
    timeout_s: float | None = None
    attempt_timeout_s: float | None = None
    attempts: int | None = None
    fallbacks: list[str] = field(default_factory=list)
    limits: Limits = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """As the file has it."""
        document: dict[str, Any] = {"name": self.name, "releases": []}
        for release, name in zip(self.releases, _names(self.releases), strict=True):
            named: dict[str, Any] = {"name": name}
            if len(self.releases) > 1:
                named["weight"] = _plain(release.weight)
            document["releases"].append({**named, **release.document})
        if self.fallbacks:
            document["fallbacks"] = self.fallbacks
        limits: dict[str, Any] = {}
        if self.timeout_s is not None:
            limits["request_timeout_seconds"] = _plain(min(self.timeout_s, TIMEOUT_S_MAX))
        if self.attempt_timeout_s is not None:
            first = min(self.attempt_timeout_s, TIMEOUT_S_MAX)
            limits["attempt_timeout_seconds"] = _plain(first)
        if self.attempts is not None:
            limits["attempts"] = self.attempts
        limits |= {name: _plain(amount) for name, amount in self.limits.items()}
        if limits:
            document["limits"] = limits
        return document


@dataclass
class Draft:
    """The whole file.

    Attributes:
        reserved: Names that no variable for a secret may have: they stand for something else.
        wants_key: The other gateway asked for keys, so this one does.
        limits: What may be used in all: of the one key, or without one.
    """

    losses: Losses
    listen: Listen
    reserved: frozenset[str] = frozenset()
    services: dict[str, DraftService] = field(default_factory=dict)
    wants_key: bool = False
    limits: Limits = field(default_factory=dict)
    _secrets: dict[str, str] = field(default_factory=dict)

    def service(self, name: str, path: Path) -> DraftService | None:
        """The service of this name; None (and a loss) when it cannot have it."""
        if not is_service_name(name):
            self.losses.add(path, "is not a name that a service can have")
            return None
        return self.services.setdefault(name, DraftService(name))

    def fall_back(self, service: DraftService, name: str, path: Path) -> None:
        """Let another service answer when this one cannot; a loss when that is not possible."""
        if name not in self.services:
            self.losses.add(path, "leads to no service that was carried over")
        elif len(service.fallbacks) >= FALLBACKS_MAX:
            self.losses.add(path, f"is one fallback too many: a service has {FALLBACKS_MAX}")
        elif name != service.name and name not in service.fallbacks:
            service.fallbacks.append(name)

    def stand_in(
        self, service: DraftService, name: str, release: DraftRelease, path: Path
    ) -> DraftService | None:
        """Make a service of a release that only answers when the service cannot."""
        made = self.service(name, path) if name not in self.services else None
        if made is None:
            self.losses.add(path, f"is left out: {name} is the name of a service already")
            return None
        made.releases.append(release)
        made.timeout_s, made.attempts = service.timeout_s, service.attempts
        self.losses.add(path, f"becomes the service {name}, a fallback of {service.name}")
        self.fall_back(service, name, path)
        return made

    def variable_for(self, secret: str, path: Path, name: str) -> str:
        """The environment variable into which a secret that lay in the file is to be put."""
        variable = self._secrets.get(secret)
        if variable is None:
            base = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
            base = f"KEY_OF_{base}" if not base[:1].isalpha() else f"{base}_API_KEY"
            taken = self.reserved.union(self._secrets.values())
            variable, number = base, 2
            while variable in taken:
                variable, number = f"{base}_{number}", number + 1
            self._secrets[secret] = variable
        self.losses.add(
            path,
            "holds a secret in clear text, which is not copied: put it into the environment "
            f"variable {variable}, and replace it soon, since it lay in a file",
        )
        return variable

    def document(self, key_digest: str) -> dict[str, Any]:
        """As the file has it."""
        limits = {name: _plain(amount) for name, amount in self.limits.items()}
        key: dict[str, Any] = {"name": "imported", "sha256": key_digest}
        if limits:
            key["limits"] = limits
        host = f"[{self.listen.host}]" if ":" in self.listen.host else self.listen.host
        return {
            "listen": f"{host}:{self.listen.port}",
            "keys": [key] if self.wants_key else NO_KEYS,
            **({"limits": limits} if limits and not self.wants_key else {}),
            "services": [service.document for service in self.services.values()],
            "spool": NOT_RECORDED,
        }


def base_url_of(text: str, path: Path, losses: Losses, *, adds: str = "") -> str:
    """A base URL that can be used, else a loss and an empty text.

    Args:
        adds: Path of an address that has none.
    """
    try:
        url = parse_replica(text).base_url
    except PydanticCustomError as error:
        losses.add(path, f"cannot be used: it {error.message()}")
        return ""
    if urlsplit(url).path:
        return url
    if not adds:
        losses.add(path, "has no path: requests go to /v1/… there")
    return url + adds


def azure_url_of(text: str, path: Path, losses: Losses) -> str:
    """The address of Azure's v1 API, which takes the deployment's name as model."""
    url = base_url_of(text, path, losses, adds="/openai/v1")
    if url and not url.endswith("/openai/v1"):
        losses.add(path, "cannot be used: Azure is reached by its v1 API, https://NAME/openai/v1")
        return ""
    return url


def endpoint_of(
    base_url: str, key: str | None, slots: float | None, path: Path, losses: Losses
) -> DraftEndpoint:
    """One endpoint; a key that would go out unencrypted is left out and listed."""
    endpoint = DraftEndpoint(
        base_url, key, min(int(slots), SLOTS_MAX) if slots and slots >= 1 else None
    )
    if endpoint.is_open and key is not None:
        losses.add(path, "its key would go out unencrypted and is left out: use https://")
        return DraftEndpoint(base_url, None, endpoint.slots)
    return endpoint


def take_sampling(section: Section, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The sampling defaults in a section, by our names; one out of bounds is listed.

    Args:
        names: Our name for each of theirs that differs.
    """
    found: dict[str, Any] = {}
    for theirs in section.keys:
        ours = (names or {}).get(theirs, theirs)
        if ours not in _SAMPLING:
            continue
        value = section.take(theirs)
        try:
            found[ours] = Sampling.model_validate({ours: value}).model_dump()[ours]
        except ValidationError:
            section.losses.add((*section.path, theirs), "has a value that is not taken here")
    return {name: value for name, value in found.items() if value is not None}


def attempts_for(retries: float, path: Path, losses: Losses) -> int:
    """So many attempts for so many retries."""
    if retries + 1 > ATTEMPTS_MAX:
        losses.add(path, f"becomes {ATTEMPTS_MAX} attempts, which is the most")
    return min(ATTEMPTS_MAX, int(retries) + 1)


def as_yaml(document: dict[str, Any]) -> str:
    """The document as text that reads back as it is, in YAML 1.1 and 1.2."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write what is there twice twice: the file is for people."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if _LIKE_A_NUMBER.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _replica(endpoint: DraftEndpoint, *, has_key: bool, has_slots: bool) -> Any:
    document: dict[str, Any] = {"url": endpoint.base_url}
    if has_slots and endpoint.slots is not None:
        document["slots"] = endpoint.slots
    if has_key and endpoint.key is not None:
        document["api_key_env"] = endpoint.key
    return document if len(document) > 1 else endpoint.base_url


def _names(releases: list[DraftRelease]) -> list[str]:
    names: list[str] = []
    for release in releases:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", release.name or release.model)[:56].strip("-._")
        base = base if is_label(base) else "release"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else number
