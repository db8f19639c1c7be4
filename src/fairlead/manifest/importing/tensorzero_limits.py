"""Times, prices and rate limits of a `tensorzero.toml`.

timeouts            of models, providers and variants
cost                of providers, by pointers into the answer
[rate_limiting]     rules for all requests, or for each key
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fairlead.manifest.importing.draft import Draft
from fairlead.manifest.importing.limits import WINDOWS, Limits, price_of, put
from fairlead.manifest.importing.section import Section
from fairlead.manifest.lines import Path

_RESOURCE = re.compile(r"(model_inferences|tokens|cost)_per_(second|minute|hour|day|week|month)")
_NAMES = {
    f"{theirs}_per_{period}": f"{ours}_per_{period}"
    for theirs, ours in (("model_inferences", "requests"), ("tokens", "tokens"), ("cost", "usd"))
    for period in ("minute", "day", "month")
}
_POINTERS = {
    "/usage/prompt_tokens": "input_per_million",
    "/usage/input_tokens": "input_per_million",
    "/usage/completion_tokens": "output_per_million",
    "/usage/output_tokens": "output_per_million",
}
_EACH = "tensorzero::each"


class Times(NamedTuple):
    """How long something may take, in seconds.

    Attributes:
        first: To the first byte of a stream.
        plain, stream: Of a plain answer and of a stream, in all.
    """

    first: float | None = None
    plain: float | None = None
    stream: float | None = None

    @property
    def whole(self) -> float | None:
        """Of any answer."""
        return max((t for t in (self.plain, self.stream) if t), default=None)


def take_times(section: Section) -> Times:
    """The times that a section states, whichever way."""
    every = section.number("timeout_ms")
    timeouts = section.section("timeouts")
    plain = timeouts.section("non_streaming")
    stream = timeouts.section("streaming")
    first = stream.number("ttft_ms")
    found = [first, plain.number("total_ms") or every, stream.number("total_ms") or every]
    for part in (plain, stream, timeouts):
        part.end()
    return Times(*(ms / 1000 if ms else None for ms in found))


def whole_time(times: Times, section: Section) -> float | None:
    """The time of a service; what differs from it is listed."""
    path = (*section.path, "timeouts")
    if times.plain and times.stream and times.plain != times.stream:
        why = f"plain answers and streams have the same time here: {times.whole:g} seconds"
        section.losses.add(path, why)
    if times.first is not None:
        why = "the time to the first byte is that of each place: `attempt_timeout_seconds`"
        section.losses.add(path, why)
    return times.whole


def attempt_time(times: Times, section: Section) -> float | None:
    """The time of one place to its first byte, which of a plain answer is nearly all of it."""
    path = (*section.path, "timeouts")
    if times.stream and times.stream != times.plain:
        section.losses.add(path, "a stream that has begun has the service's time")
    if times.plain is None:
        if times.first is not None:
            section.losses.add(path, "a time to the first byte holds plain answers too")
        return None
    if times.first != times.plain:
        why = f"streams, too, have {max(times.plain, times.first or 0):g} seconds to begin"
        section.losses.add(path, why)
    return max(times.plain, times.first or 0.0)


def take_price(section: Section) -> dict[str, Any]:
    """The price in `cost`, by our names."""
    rates: dict[str, object] = {}
    listed = section.take("cost")
    path: Path = (*section.path, "cost")
    for item in listed if isinstance(listed, list) else []:
        pointer = item.get("pointer") if isinstance(item, dict) else None
        name = _POINTERS.get(pointer) if isinstance(pointer, str) else None
        rate = item.get("cost_per_million") if isinstance(item, dict) else None
        if rate is None and isinstance(item, dict):
            each = item.get("cost_per_unit")
            rate = each * 1e6 if isinstance(each, (int, float)) else None
        if name is None or rate is None:
            section.losses.add(path, f"{pointer or 'it'} is no price of prompts or answers")
        else:
            rates[name] = rate
    if listed is not None and not isinstance(listed, list):
        section.losses.add(path, "is not a list of prices")
    return price_of(rates, path, section.losses)


def read_rules(draft: Draft, section: Section) -> None:
    """Rules for all requests, and those for each key, become limits of the one key that is made."""
    is_enabled = section.take("enabled") is not False
    rules = section.take("rules")
    section.end("there is nothing outside of the gateway that would have to be set up for limits")
    if not isinstance(rules, list):
        return
    priorities: set[float] = set()
    for number, data in enumerate(rules):
        rule = Section(data, (*section.path, "rules", number), draft.losses)
        if not is_enabled:
            rule.lose_all("is switched off")
            continue
        _rule(draft, rule, priorities)


def _rule(draft: Draft, rule: Section, priorities: set[float]) -> None:
    scope = rule.take("scope")
    priority, always = rule.take("priority"), rule.take("always")
    if not _is_for_all(draft, scope):
        rule.lose_all("requests have no tags here: limits are those of keys, tenants and services")
        return
    if always is not True and isinstance(priority, (int, float)):
        priorities.add(priority)
        if len(priorities) > 1 and rule.keys:
            draft.losses.add(rule.path, "holds beside the other rules, whatever its priority")
    limits: Limits = draft.limits
    for name in rule.keys:
        if not _RESOURCE.fullmatch(name):
            continue
        path = (*rule.path, name)
        value = rule.take(name)
        if name not in _NAMES:
            draft.losses.add(path, f"has no counterpart: {WINDOWS}")
            continue
        if isinstance(value, dict):
            draft.losses.add(path, "is refilled at once, at the beginning of each window")
            value = value.get("refill_rate")
        put(limits, _NAMES[name], value, path, draft.losses)
    rule.end()


def _is_for_all(draft: Draft, scope: object) -> bool:
    if scope is None or scope == []:
        return True
    entries = scope if isinstance(scope, list) else [scope]
    return draft.wants_key and all(
        isinstance(entry, dict) and entry == {"api_key_public_id": _EACH} for entry in entries
    )
