"""Model files of the Hugging Face Hub, over HTTPS.

A revision is resolved to its commit first; sizes and digests come from the Hub's listing of that
commit, and what is downloaded must match them: SHA-256 for large files (LFS), the Git blob id for
small ones. A download that breaks off goes on where it was.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import quote, urlsplit

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import ModelFileRefused, NotFound, Unauthorized, Unavailable
from fairlead.registry.layout import CHUNK
from fairlead.registry.model_files import check_name
from fairlead.registry.sources.address import HubAddress
from fairlead.registry.sources.hub_settings import HubSettings
from fairlead.registry.sources.selection import choose, choose_named
from fairlead.registry.sources.source_file import Advance, Sink, SourceFile

LISTING_MAX = 32 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BROKEN = (http.client.HTTPException, OSError)


class _Final(Unavailable):
    """The Hub's answer would be the same again."""


class _Lfs(msgspec.Struct):
    sha256: str
    size: int


class _Sibling(msgspec.Struct, rename="camel"):
    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _Lfs | None = None


class _Listing(msgspec.Struct):
    sha: str
    siblings: list[_Sibling]


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to where files lie; the token goes to the Hub itself only."""

    def __init__(self, hub: str, token: str | None) -> None:
        self._hub = urlsplit(hub)
        self._token = token

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl)
        if target.scheme not in ("https", self._hub.scheme):
            raise _Final(f"the Hub redirects to {target.scheme}://{target.netloc}; refused")
        changed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if changed is not None and (target.scheme, target.netloc) == self._hub[:2]:
            _authorize(changed, self._token)
        return changed


class Hub:
    """The Hub, with a person's token where a repository needs one."""

    def __init__(self, settings: HubSettings, token: str | None) -> None:
        self.settings = settings
        self._token = token
        self._opener = urllib.request.build_opener(_SafeRedirects(settings.url, token))

    def files(self, address: HubAddress) -> tuple[str, list[SourceFile]]:
        """The source with its commit, and the model's files; the engine's file first.

        Raises:
            NotFound: No such repository, revision or file.
            Unauthorized: The repository needs a token, or another one.
            Unavailable: The Hub does not answer as it should.
            ModelFileRefused: There is no model that can be taken.
        """
        place = f"hf://{address.repo}@{address.revision}"
        if address.file is not None:
            check_name(PurePosixPath(address.file).name)
        listing = self._listing(address, place)
        by_path = {sibling.rfilename: sibling for sibling in listing.siblings}
        folder = ""
        if address.file is None:
            names = choose([p for p in by_path if "/" not in p], place=place)
        else:
            if address.file not in by_path:
                raise NotFound(f"{place} has no file {address.file}")
            folder = address.file.rpartition("/")[0]
            folder += "/" if folder else ""
            beside = [p.removeprefix(folder) for p in by_path if p.startswith(folder)]
            names = choose_named(address.file.removeprefix(folder), beside, place=place)
        commit = f"hf://{address.repo}@{listing.sha}"
        source = commit if address.file is None else f"{commit}/{address.file}"
        return source, [
            self._file(address.repo, listing.sha, by_path[folder + name]) for name in names
        ]

    def _listing(self, address: HubAddress, place: str) -> _Listing:
        revision = quote(address.revision, safe="")
        url = f"{self.settings.url}/api/models/{address.repo}/revision/{revision}?blobs=true"
        try:
            with self.open(url, place) as answer:
                data = answer.read(LISTING_MAX + 1)
        except _BROKEN as error:
            raise Unavailable(f"{place}: the Hub's answer broke off: {error}") from None
        if len(data) > LISTING_MAX:
            raise Unavailable(f"{place}: the Hub's listing is larger than {LISTING_MAX:,} bytes")
        try:
            listing = decode_json(data, _Listing)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{place}: the Hub's listing cannot be read: {error}") from None
        if not _COMMIT.fullmatch(listing.sha):
            raise Unavailable(f"{place}: the Hub names no commit")
        return listing

    def _file(self, repo: str, commit: str, sibling: _Sibling) -> SourceFile:
        url = f"{self.settings.url}/{repo}/resolve/{commit}/{quote(sibling.rfilename)}"
        label = f"hf://{repo}@{commit[:12]}/{sibling.rfilename}"
        size = sibling.lfs.size if sibling.lfs else sibling.size
        sha256 = sibling.lfs.sha256.lower() if sibling.lfs else None
        stated = _SHA256.fullmatch(sha256) if sha256 is not None else sibling.blob_id
        if size is None or size < 0 or not stated:
            raise Unavailable(f"{label}: the Hub states no size or digest")
        name = PurePosixPath(sibling.rfilename).name
        return HubFile(self, url, name, label, size, sha256, sibling.blob_id)

    def open(self, url: str, place: str, *, start: int = 0) -> http.client.HTTPResponse:
        """Send a GET for the content from byte `start` on; errors of the Hub are translated."""
        request = urllib.request.Request(url)  # noqa: S310 - the base URL is the caller's own
        request.add_header("User-Agent", "fairlead")
        request.add_header("Accept-Encoding", "identity")
        if start:
            request.add_header("Range", f"bytes={start}-")
        _authorize(request, self._token)
        try:
            answer: http.client.HTTPResponse = self._opener.open(
                request, timeout=self.settings.timeout_s
            )
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, place) from None
        except (urllib.error.URLError, *_BROKEN) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"{place}: {self.settings.url} does not answer: {reason}") from None
        return answer

    def _refusal(self, status: int, place: str) -> Unauthorized | NotFound | Unavailable:
        if status in (401, 403):
            # The Hub answers like this for a repository that does not exist, too.
            hint = "check its name; set HF_TOKEN for a private or gated repository"
            if self._token:
                hint = "check its name, and that the token in HF_TOKEN has been granted access"
            return Unauthorized(f"{place}: the Hub refuses access ({status})", hint=hint)
        if status == 404:
            return NotFound(f"{place} does not exist on {self.settings.url}")
        kind = Unavailable if status in (408, 429) or status >= 500 else _Final
        return kind(f"{place}: {self.settings.url} answered {status}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a commit; `sha256` is stated for large files, `git_id` for all."""

    hub: Hub
    url: str
    name: str
    label: str
    size: int
    sha256: str | None
    git_id: str | None

    def check(self) -> None:
        """Only the name can be seen before the download."""
        check_name(self.name)

    def known_digest(self, advance: Advance) -> str | None:
        """As the Hub states it."""
        return f"sha256:{self.sha256}" if self.sha256 else None

    def copy_into(self, sink: Sink, advance: Advance) -> None:
        """Download and verify.

        Raises:
            Unavailable: It broke off again and again.
            ModelFileRefused: What came is not what the Hub's listing states.
        """
        check = _Check(self)
        waits = iter(self.hub.settings.retry_waits_s)
        while sink.size < self.size or self.size == 0:
            try:
                self._go_on(sink, check, advance)
                if sink.size < self.size:
                    raise http.client.IncompleteRead(b"")
                break
            except _Final:
                raise
            except (*_BROKEN, Unavailable) as error:
                wait = next(waits, None)
                if wait is None:
                    raise Unavailable(
                        f"{self.label}: the download broke off at {sink.size:,} of "
                        f"{self.size:,} bytes: {error}"
                    ) from None
                time.sleep(wait)
        check.finish()

    def _go_on(self, sink: Sink, check: _Check, advance: Advance) -> None:
        with self.hub.open(self.url, self.label, start=sink.size) as answer:
            if sink.size and answer.status != 206:
                sink.restart()
                check.restart()
            while chunk := answer.read(CHUNK):
                if sink.size + len(chunk) > self.size:
                    raise ModelFileRefused(
                        f"{self.label}: more than the {self.size:,} bytes that the Hub states"
                    )
                sink.write(chunk)
                check.update(chunk)
                advance(sink.size)


class _Check:
    """Compares a download with the digest that the Hub states."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        if self._file.sha256 is not None:
            self._hasher, self._stated = hashlib.sha256(), self._file.sha256
        else:
            # Git's own id of a blob, which is all that the Hub states for small files.
            self._hasher = hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)
            self._stated = self._file.git_id or ""

    def update(self, data: bytes) -> None:
        self._hasher.update(data)

    def finish(self) -> None:
        if self._hasher.hexdigest() != self._stated:
            raise ModelFileRefused(
                f"{self._file.label}: the download has digest {self._hasher.hexdigest()}, "
                f"the Hub states {self._stated}",
                hint="try again; if it stays so, do not use this file",
            )


def _authorize(request: urllib.request.Request, token: str | None) -> None:
    """Add the token such that urllib does not carry it over a redirect."""
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
