"""Where a model comes from: files on this machine, the Hugging Face Hub, or a remote endpoint."""

from __future__ import annotations

from fairlead.domain.release import RemoteModel
from fairlead.registry.sources.address import HubAddress, LocalAddress, parse_address
from fairlead.registry.sources.hub_settings import HubSettings
from fairlead.registry.sources.local import local_files
from fairlead.registry.sources.source_file import SourceFile

__all__ = [
    "HubAddress",
    "HubSettings",
    "LocalAddress",
    "RemoteModel",
    "SourceFile",
    "local_files",
    "parse_address",
]
