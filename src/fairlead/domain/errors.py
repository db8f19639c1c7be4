"""One family of errors.

Each error carries a machine code and a message for a person: what was wrong, where, and what to
do. The code is mapped here, once, to an HTTP status and a process exit code. Exceptions of other
libraries are translated into these where they enter.
"""

from __future__ import annotations

from typing import ClassVar


class FairleadError(Exception):
    """Something a person can be told about without a traceback.

    Attributes:
        code: Stable machine-readable name, also used as a metric label.
        http_status: Status with which an API answers when this error ends a request.
        exit_code: Exit status of the command line when this error ends a command.
        message: What was wrong and where.
        hint: What to do about it, if that is known.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def one_line(self) -> str:
        """Message and hint, for a log or a list."""
        return " ".join((f"{self.message} ({self.hint})" if self.hint else self.message).split())

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InvalidInput(FairleadError):
    """What the user wrote cannot be used as it stands."""

    code = "invalid"
    http_status = 400
    exit_code = 2


class ManifestError(InvalidInput):
    """A manifest has a mistake; the message begins with `file:line:`."""

    code = "invalid_manifest"


class ModelFileRefused(InvalidInput):
    """A model file is damaged, oversized, or of a kind that can run code when loaded."""

    code = "model_refused"


class Unauthorized(FairleadError):
    """The caller showed no valid key."""

    code = "unauthorized"
    http_status = 401
    exit_code = 5


class NotFound(FairleadError):
    """The named thing does not exist."""

    code = "not_found"
    http_status = 404
    exit_code = 6


class Conflict(FairleadError):
    """The request contradicts the present state; nothing was changed."""

    code = "conflict"
    http_status = 409
    exit_code = 7


class Damaged(FairleadError):
    """Stored content does not match its digest; it is not used."""

    code = "damaged"
    http_status = 500
    exit_code = 8


class StorageFailed(FairleadError):
    """The disk refused a write or a read; nothing half-written was kept."""

    code = "storage_failed"
    http_status = 507
    exit_code = 9


class Unavailable(FairleadError):
    """A part that is needed does not answer (control plane, replica, provider, port)."""

    code = "unavailable"
    http_status = 503
    exit_code = 5
