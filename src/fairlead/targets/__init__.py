"""Where replicas run: as processes of this machine, or behind a URL."""

from fairlead.targets.every import EveryTarget
from fairlead.targets.local import LocalTarget
from fairlead.targets.remote import RemoteTarget
from fairlead.targets.target import Target

__all__ = ["EveryTarget", "LocalTarget", "RemoteTarget", "Target"]
