"""Releases, content-addressed in an OCI image layout on disk."""

from __future__ import annotations

from fairlead.registry.entries import (
    BuildInput,
    Difference,
    GcReport,
    Problem,
    Progress,
    ReleaseEntry,
    Tag,
)
from fairlead.registry.releases import Registry
from fairlead.registry.sources import HubSettings

__all__ = [
    "BuildInput",
    "Difference",
    "GcReport",
    "HubSettings",
    "Problem",
    "Progress",
    "Registry",
    "ReleaseEntry",
    "Tag",
]
