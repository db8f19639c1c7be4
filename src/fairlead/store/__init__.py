"""The store: what must outlive every process, behind one interface (`fairlead.store.interface`)."""

from fairlead.store.opening import open_store

__all__ = ["open_store"]
