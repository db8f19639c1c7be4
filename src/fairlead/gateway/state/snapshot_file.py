"""The last snapshot on disk: what a worker starts from while control cannot be asked."""

from __future__ import annotations

import ipaddress
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fairlead.wire.snapshot import (
    ReleaseRoute,
    ServiceRoute,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
)

_log = logging.getLogger("fairlead.gateway")


class SnapshotFile:
    """The file that all workers share.

    Args:
        local_since_ns: Unix time before which no replica of this machine was started that still
            runs; see `WorkerSettings`.
    """

    def __init__(self, path: Path, boot: str, *, local_since_ns: int = 0) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{boot}")
        self._local_since_ns = local_since_ns

    def load(self) -> Snapshot | None:
        """The kept snapshot; None when there is none that can be used.

        One that was written before the replicas of this machine were started has lost these: other
        programs may listen on their ports by now. Its version is 0, so that control sends the
        present one even when its version has not changed.
        """
        kept = self._read()
        if kept is None:
            return None
        snapshot, is_present = kept
        return snapshot if is_present else _without_local_replicas(snapshot)

    def keep(self, snapshot: Snapshot) -> None:
        """Replace it as a whole. A disk that refuses is logged: the gateway serves on without.

        The file is shared by all workers: a slower one must not put an older snapshot back.
        """
        kept = self._read()
        if kept is not None:
            present, is_present = kept
            if is_present and present.version >= snapshot.version:
                return
        try:
            descriptor = os.open(
                self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_snapshot(snapshot))
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path)
        except OSError as error:
            _log.warning("the snapshot cannot be kept on disk: %s", error.strerror)

    def _read(self) -> tuple[Snapshot, bool] | None:
        """The kept snapshot, and whether its replicas on this machine are still the same."""
        try:
            with self._path.open("rb") as file:
                written_ns = os.fstat(file.fileno()).st_mtime_ns
                snapshot = decode_snapshot(file.read())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the kept snapshot %s cannot be used: %s", self._path.name, error)
            return None
        return snapshot, written_ns > self._local_since_ns


def _without_local_replicas(snapshot: Snapshot) -> Snapshot:
    services = {name: _only_remote(service) for name, service in snapshot.services.items()}
    return msgspec.structs.replace(snapshot, version=0, services=services)


def _only_remote(service: ServiceRoute) -> ServiceRoute:
    releases = {digest: _remote_route(route) for digest, route in service.releases.items()}
    return msgspec.structs.replace(service, releases=releases)


def _remote_route(route: ReleaseRoute) -> ReleaseRoute:
    remote = tuple(e for e in route.endpoints if not _is_local(e.base_url))
    return msgspec.structs.replace(route, endpoints=remote)


def _is_local(url: str) -> bool:
    """Whether it leads to this machine, by a loopback address or a name of one."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False  # No URL that requests could be sent to.
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Resolvers also take shortened forms such as 127.1.
        return host.startswith("127.") and host.replace(".", "").isdigit()
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
