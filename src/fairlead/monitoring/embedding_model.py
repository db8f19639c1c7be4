"""Which model makes the vectors by which drift goes, where one is declared."""

from __future__ import annotations

import json

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import RemoteModel

PER_DAY_MAX = 10**9


class EmbeddingModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentence-embedding model that is asked for vectors of the sample's texts.

    Attributes:
        service: A service of this installation, whose champion is asked; None with `provider`.
        provider: A model elsewhere; None with `service`.
        per_day: Texts that it is asked about in a day (UTC).
        timeout_s: How long an answer may take.
    """

    service: str | None = None
    provider: RemoteModel | None = None
    per_day: int = 200_000
    timeout_s: float = 10.0

    def identity(self, release: str) -> str:
        """What its vectors are of: those of another model are never compared with them.

        Args:
            release: Digest of the release that serves, where it is a service of this installation.
        """
        remote = self.provider
        who = [self.service, release] if remote is None else [remote.base_url, remote.model]
        return json.dumps(who)


def check_embeddings(model: EmbeddingModel, service: str) -> None:
    """Raises InvalidInput with the place of what cannot be."""
    where = "monitoring.embeddings"
    if (model.service is None) == (model.provider is None):
        raise InvalidInput(f"{where}: needs either a service or a provider's model")
    if model.service == service:
        raise InvalidInput(f"{where}.service: is the service itself")
    if not 1 <= model.per_day <= PER_DAY_MAX:
        raise InvalidInput(f"{where}.per_day: {model.per_day} is not from 1 to {PER_DAY_MAX:,}")
    if not 0.1 <= model.timeout_s <= 60.0:
        raise InvalidInput(f"{where}.timeout_s: {model.timeout_s:g} is not from 0.1 to 60")
