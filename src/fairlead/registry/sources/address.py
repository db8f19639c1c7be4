"""Read the text that says where a model comes from.

/path/to/file-or-folder                 files on this machine
hf://org/repo@revision[/path/file]      the Hugging Face Hub, at a named revision
openai://host[:port]/path?model=NAME    an OpenAI-compatible endpoint over HTTPS
openai+http://…                         the same in plain text, on loopback only
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import RemoteModel

DEFAULT_PATH = "/v1"
_HUB = re.compile(
    r"hf://(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(?:@(?P<revision>[^/@\s]{1,255}))?"
    r"(?:/(?P<file>[^\s]{1,512}))?",
    re.ASCII,
)
_HUB_FORM = "hf://org/repo@revision or hf://org/repo@revision/path/to/file"
_REMOTE_FORM = "openai://host[:port]/v1?model=NAME"
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """A file, or a folder with safetensors or GGUF files."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository of the Hub at a revision (commit, tag or branch), or one file of it."""

    repo: str
    revision: str
    file: str | None = None


def parse_address(text: str) -> LocalAddress | HubAddress | RemoteModel:
    """Read a model's address; raises `InvalidInput` with what is wrong and the form expected."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        path = Path(text)
        if not text or "\0" in text or not path.is_absolute():
            raise InvalidInput(f"model path {text!r} is not absolute")
        return LocalAddress(path)
    match scheme:
        case "hf":
            return _hub(text)
        case "openai":
            return _remote(text, "https")
        case "openai+http":
            return _remote(text, "http")
        case "oci":
            raise InvalidInput(
                f"{text}: models from an OCI registry are not yet supported",
                hint="use a path, hf:// or openai://",
            )
    raise InvalidInput(
        f"{text}: unknown kind of model address {scheme}://",
        hint="use a path, hf://, openai:// or openai+http://",
    )


def _hub(text: str) -> HubAddress:
    match = _HUB.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text}: expected {_HUB_FORM}")
    if match["revision"] is None:
        raise InvalidInput(
            f"{text}: names no revision, so it could change",
            hint=f"write {_HUB_FORM}, best with a commit",
        )
    file = match["file"]
    if file is not None and any(part in ("", ".", "..") for part in file.split("/")):
        raise InvalidInput(f"{text}: {file!r} is not a path within the repository")
    return HubAddress(match["repo"], unquote(match["revision"]), file)


def _remote(text: str, scheme: str) -> RemoteModel:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        query = parse_qs(parts.query, strict_parsing=bool(parts.query), max_num_fields=8)
    except ValueError:
        raise InvalidInput(f"{text}: expected {_REMOTE_FORM}") from None
    if parts.username is not None or parts.password is not None:
        # The address is not repeated: it holds a secret.
        raise InvalidInput(
            f"a model address at {host} holds credentials",
            hint="name api_key_env or api_key_file instead",
        )
    models = query.pop("model", [])
    if not _HOST.fullmatch(host) or parts.fragment or query or re.search(r"\s", text):
        raise InvalidInput(f"{text}: expected {_REMOTE_FORM}")
    if len(models) != 1:
        raise InvalidInput(f"{text}: names no model", hint=f"write {_REMOTE_FORM}")
    if scheme == "http" and not _is_loopback(host):
        raise InvalidInput(
            f"{text}: plain HTTP is for loopback only; prompts and keys would be readable",
            hint="use openai:// (HTTPS)",
        )
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[scheme]:
        place += f":{port}"
    path = parts.path.rstrip("/") or DEFAULT_PATH
    return RemoteModel(base_url=f"{scheme}://{place}{path}", model=models[0])


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
