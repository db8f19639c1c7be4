"""The file of a gateway that runs alone: `gateway.yaml`, checked as strictly as a manifest."""

from fairlead.manifest.gateway_file.loading import load_gateway_file, parse_gateway_file
from fairlead.manifest.gateway_file.models import GatewayFile
from fairlead.manifest.gateway_file.schema import gateway_file_schema

__all__ = ["GatewayFile", "gateway_file_schema", "load_gateway_file", "parse_gateway_file"]
