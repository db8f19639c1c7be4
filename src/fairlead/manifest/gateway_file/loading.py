"""From a gateway file to a checked one, or to one error that lists every mistake."""

from __future__ import annotations

from pathlib import Path

from fairlead.manifest.gateway_file.models import GatewayFile
from fairlead.manifest.gateway_file.schema import gateway_file_vocabulary
from fairlead.manifest.loading import check, read_text


def load_gateway_file(path: Path) -> GatewayFile:
    """Read and check; raises ManifestError, one line `path:line: what is wrong` per mistake."""
    text = read_text(path, hint="docs/gateway.md has one to start from; --config names another")
    return parse_gateway_file(text, path)


def parse_gateway_file(text: str, path: Path) -> GatewayFile:
    """Check a gateway file's text as if it lay at `path`; raises ManifestError."""
    return check(text, path, GatewayFile, gateway_file_vocabulary())
