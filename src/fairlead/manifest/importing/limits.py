"""Limits, budgets and prices of other gateways, in the words of this one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fairlead.manifest.importing.section import Losses, is_amount
from fairlead.manifest.lines import Path

Limits = dict[str, int | float]
"""By name, such as `requests_per_minute` or `usd_per_month`."""

COUNT_MAX = 10**15
USD_MAX = 1e6
WINDOWS = "limits are for requests, tokens or USD in a minute, a day or a month"
_DURATION = re.compile(r"(\d{1,6})(s|m|h|d|w|mo)")
_MINUTE, _DAY = {"60s", "1m"}, {"24h", "1d", "86400s", "1440m"}
_MONTH = {"1mo", "28d", "29d", "30d", "31d", "720h"}


def put(limits: Limits, name: str, value: object, path: Path, losses: Losses) -> bool:
    """Note a limit, beside which a smaller one of the same name stays; False when it cannot be."""
    most = USD_MAX if name.startswith("usd") else COUNT_MAX
    if not is_amount(value) or not isinstance(value, (int, float)) or not 0 < value <= most:
        losses.add(path, "is not a limit that can be set here")
        return False
    whole = value if name.startswith("usd") else int(value)
    if whole <= 0:
        losses.add(path, "is below one, which lets nothing through")
        return False
    limits[name] = min(limits.get(name, whole), whole)
    return True


def put_budget(limits: Limits, usd: object, duration: object, path: Path, losses: Losses) -> bool:
    """Note a budget in USD for a duration such as `30d`."""
    text = duration if isinstance(duration, str) else ""
    if text in _MINUTE:
        return put(limits, "usd_per_minute", usd, path, losses)
    if text in _DAY:
        return put(limits, "usd_per_day", usd, path, losses)
    if text in _MONTH:
        if text != "1mo":
            losses.add(path, f"is for a calendar month here, not for {text}")
        return put(limits, "usd_per_month", usd, path, losses)
    known = _DURATION.fullmatch(text)
    losses.add(path, f"is for {text}: {WINDOWS}" if known else f"never ends: {WINDOWS}")
    return False


def added(several: list[Limits]) -> Limits:
    """What several places may be asked for together; only what each of them has a limit on."""
    names = set(several[0]) if several else set()
    for limits in several[1:]:
        names &= set(limits)
    return {name: sum(limits[name] for limits in several) for name in sorted(names)}


def price_of(rates: Mapping[str, object], path: Path, losses: Losses) -> dict[str, Any]:
    """A price, of USD per million tokens by our names; empty when there is none that can be."""
    found: dict[str, Any] = {}
    for name, value in rates.items():
        if value is None:
            continue
        if not isinstance(value, (int, float)) or not is_amount(value) or value > USD_MAX:
            losses.add(path, "is not a price that can be kept here")
            continue
        found[name] = round(float(value), 9)
    return found if any(found.values()) else {}
