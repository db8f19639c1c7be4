"""The limits and budgets that keys, tenants and services can have."""

from __future__ import annotations

from pydantic import Field

from fairlead.domain.quota import Quota
from fairlead.manifest.values import Strict


class Quotas(Strict):
    """What may be used, in all gateway workers together."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10**15, description="Requests that are let through in a minute."
    )
    requests_per_day: int | None = Field(
        default=None, ge=1, le=10**15, description="The same in a UTC day."
    )
    requests_per_month: int | None = Field(
        default=None, ge=1, le=10**15, description="The same in a UTC month."
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=10**15, description="Tokens of prompts and answers in a minute."
    )
    tokens_per_day: int | None = Field(
        default=None, ge=1, le=10**15, description="Tokens of prompts and answers in a UTC day."
    )
    tokens_per_month: int | None = Field(
        default=None, ge=1, le=10**15, description="Tokens of prompts and answers in a UTC month."
    )
    usd_per_minute: float | None = Field(
        default=None, gt=0, le=1e6, description="Cost in a minute, by the release's price."
    )
    usd_per_day: float | None = Field(
        default=None, gt=0, le=1e6, description="Cost in a UTC day, by the release's price."
    )
    usd_per_month: float | None = Field(
        default=None, gt=0, le=1e6, description="Cost in a UTC month, by the release's price."
    )

    @property
    def quota(self) -> Quota:
        """The same as the rest of the program has it."""
        return Quota(**{name: getattr(self, name) for name in Quota.__struct_fields__})
