"""What the user writes: `fairlead.yaml`, checked strictly, and its JSON Schema."""

from fairlead.manifest.engines import LlamaCppSettings, RemoteSettings
from fairlead.manifest.loading import load_manifest, parse_manifest
from fairlead.manifest.models import Manifest
from fairlead.manifest.schema import manifest_schema
from fairlead.manifest.sources import HubSource, LocalSource, RemoteSource
from fairlead.manifest.template import starting_point

__all__ = [
    "HubSource",
    "LlamaCppSettings",
    "LocalSource",
    "Manifest",
    "RemoteSettings",
    "RemoteSource",
    "load_manifest",
    "manifest_schema",
    "parse_manifest",
    "starting_point",
]
