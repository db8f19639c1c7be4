"""A complete request, as it is handed to what answers it."""

from __future__ import annotations


class Request:
    """A complete request of a known key (or of none, where none is needed).

    Attributes:
        trace: The client's `traceparent`.
        risk: What it says in `x-fairlead-risk`.
    """

    __slots__ = ("body", "id", "key_id", "path", "priority", "risk", "session", "trace")

    def __init__(
        self,
        id: str,
        path: str,
        session: bytes | None,
        key_id: str,
        body: bytes,
        priority: int = 0,
        trace: bytes | None = None,
        risk: bytes | None = None,
    ) -> None:
        self.id = id
        self.path = path
        self.session = session
        self.key_id = key_id
        self.body = body
        self.priority = priority
        self.trace = trace
        self.risk = risk
