"""Other gateways' configuration files, turned into a gateway file, and a list of what is lost."""

from fairlead.manifest.importing.importer import Imported, Kind, import_gateway_file
from fairlead.manifest.importing.section import Loss

__all__ = ["Imported", "Kind", "Loss", "import_gateway_file"]
