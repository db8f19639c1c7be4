"""Where a release's model comes from, as `release.model` says it.

models/b.gguf                          a file, relative to the manifest's folder
hf://org/repo@revision[/path/file]     a repository on the Hugging Face Hub, pinned
openai://host[:port]/v1?model=NAME     an OpenAI-compatible endpoint over HTTPS
openai+http://host[:port]/v1?model=N   the same over plain HTTP, on loopback only
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from fairlead.manifest.values import existing_file, nearest, shown, wrong

_HUB = re.compile(
    r"hf://(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(?:@(?P<revision>[^/@\s]{1,255}))?"
    r"(?:/(?P<file>[^\s]{1,512}))?",
    re.ASCII,
)
_SCHEMES = {"openai": "https", "openai+http": "http"}


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A model file on this machine, or a folder with its files."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a repository on the Hugging Face Hub.

    Attributes:
        repo: `org/name`.
        revision: Commit, tag or branch, a slash in it written %2F.
        file: Path in the repository; None for its only model file.
    """

    repo: str
    revision: str
    file: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A model behind an OpenAI-compatible URL.

    Attributes:
        base_url: `http(s)://host[:port]/path` below which `/chat/completions` is found.
        model: The provider's name of the model.
    """

    base_url: str
    model: str


Source = LocalSource | HubSource | RemoteSource


def parse_source(value: object, info: ValidationInfo) -> Source:
    """Read `release.model`; a file must be there."""
    if not isinstance(value, str) or not value:
        raise wrong(f"must be a path, hf://… or openai://…, not {shown(value)}")
    scheme, separator, _ = value.partition("://")
    if not separator:
        return LocalSource(existing_file(value, info, folder=True))
    if scheme == "hf":
        return _hub(value)
    if scheme in _SCHEMES:
        return remote_source(value, scheme)
    if scheme == "oci":
        raise wrong("cannot be taken from an OCI registry in this version")
    if scheme in ("http", "https"):
        raise wrong(
            "must say what kind of address it is: openai://host/v1?model=NAME for an endpoint, "
            "hf://org/repo@revision for a model on the Hub"
        )
    near = nearest(scheme, ["hf", *_SCHEMES])
    raise wrong(f'has an unknown kind of address "{scheme}://"' + _maybe(near and f"{near}://"))


def source_text(source: Source) -> str:
    """The source in the form in which a manifest has it, a path as absolute."""
    match source:
        case LocalSource(path):
            return str(path.absolute())
        case HubSource(repo, revision, file):
            return f"hf://{repo}@{revision}" + (f"/{file}" if file else "")
        case RemoteSource(base_url, model):
            scheme, _, place = base_url.partition("://")
            kind = next(name for name, plain in _SCHEMES.items() if plain == scheme)
            return f"{kind}://{place}?{urlencode({'model': model})}"


def is_remote(value: object) -> bool:
    """Whether a model written like this is served by someone else."""
    return isinstance(value, str) and value.partition("://")[0] in _SCHEMES


def _maybe(near: str | None) -> str:
    return f' (did you mean "{near}"?)' if near else ""


def _hub(value: str) -> HubSource:
    match = _HUB.fullmatch(value)
    if match is None:
        raise wrong(f"must have the form hf://org/repo@revision, not {shown(value)}")
    if match["revision"] is None:
        raise wrong(f"must name a revision, so that it stays the same: {value}@<commit>")
    if match["file"] and not {"", ".", ".."}.isdisjoint(match["file"].split("/")):
        raise wrong(f"must not leave the repository: {shown(value)}")
    return HubSource(match["repo"], match["revision"], match["file"])


def remote_source(value: str, scheme: str) -> RemoteSource:
    """Read `openai://` or `openai+http://`; raises a validation error."""
    form = f"{scheme}://host/v1?model=NAME"
    if not value.isprintable() or " " in value or "\\" in value:
        raise wrong(f"must have the form {form}, without white space and backslashes")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
        query = parse_qs(parts.query, strict_parsing=bool(parts.query), max_num_fields=8)
    except ValueError:
        raise wrong(f"must have the form {form}") from None
    if parts.username is not None or parts.password is not None:
        raise wrong("must not hold credentials; name api_key_env or api_key_file instead")
    if not host or parts.fragment or not re.fullmatch(r"[\w.:-]+", host):
        raise wrong(f"must have the form {form}")
    for name in query:
        if name != "model":
            raise wrong(f'has an unknown parameter "{name}"; the only one is "model"')
    names = query.get("model", [])
    if len(names) != 1 or not names[0]:
        raise wrong(f"must name the provider's model once: {form}")
    if re.search(r"\s", value):
        raise wrong("must not have white space in it")
    if scheme == "openai+http" and not is_loopback(host):
        raise wrong("would send prompts and keys unencrypted to another machine; use openai://")
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    path = parts.path.rstrip("/")
    return RemoteSource(f"{_SCHEMES[scheme]}://{place}{path or '/v1'}", names[0])


def is_loopback(host: str) -> bool:
    """Whether a host name or address leads to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1}
ModelSource = Annotated[Source, PlainValidator(parse_source), WithJsonSchema(_SCHEMA)]
"""`release.model`, parsed."""
