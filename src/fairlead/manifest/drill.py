"""The manifest's `drill`: when a service is drilled by itself."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from fairlead.domain.fault import FaultKind
from fairlead.manifest.receivers import Url
from fairlead.manifest.values import Strict, parse_share, shown, wrong

_DAYS = re.compile(r"([1-9]\d{0,2})d")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def _every(value: object) -> int:
    match = _DAYS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 366:
        raise wrong(f'must be a number of days from "1d" to "366d", not {shown(value)}')
    return int(match[1])


def _at(value: object) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong(f'must be a time of the day such as "03:00" (UTC), not {shown(value)}')
    return 60 * int(match[1]) + int(match[2])


class Drill(Strict):
    """Fault drills: releases that are bad on purpose, to see whether they are caught."""

    faults: tuple[FaultKind, ...] = Field(
        strict=False,
        min_length=1,
        max_length=6,
        description="Kinds of fault, in turn: wrong, slow, format, refusal, toxic, error.",
    )
    every: Annotated[
        int, BeforeValidator(_every), WithJsonSchema({"type": "string", "pattern": r"^\d+d$"})
    ] = Field(default="7d", validate_default=True, description="Days from one drill to the next.")
    at: Annotated[
        int, BeforeValidator(_at), WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})
    ] = Field(
        default="03:00", validate_default=True, description="Time of the day at which, in UTC."
    )
    harm: int = Field(
        default=20, ge=1, le=1_000, description="Requests that may be served badly at most."
    )
    share: Annotated[
        float,
        BeforeValidator(parse_share),
        WithJsonSchema({"type": ["string", "number"]}),
        Field(ge=0.001, le=0.5),
    ] = Field(default=0.05, description="Share of the units that may meet it.")
    shadow: bool = Field(
        default=False,
        description="Copies of requests meet it and no client: only what they are judged by shows.",
    )
    delay_ms: float = Field(
        default=2_000.0, ge=1, le=600_000, description="How much later a slow answer begins."
    )
    webhooks: tuple[Url, ...] = Field(
        default=(), strict=False, max_length=10, description="Told of a missed drill, by POST."
    )
