"""What clients see of limits: the refusal, and the headers; and what a request has used."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.domain.quota import PICO, Cost, Measure, Price
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.auth import ANYONE
from fairlead.gateway.quotas.estimates import estimate
from fairlead.gateway.quotas.quota import Denial, Hold, QuotaBook
from fairlead.gateway.quotas.quota_meters import Meter
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ReleaseRoute

CLIENT_LEFT = 499
FREE = Price()
_PRICES_MAX = 1_000
_rates: dict[Price, tuple[int, int]] = {}
_WORDS = {
    Measure.REQUESTS: ("requests", "requests"),
    Measure.TOKENS: ("tokens", "tokens"),
    Measure.USD: ("insufficient_quota", "USD"),
}
_REQUESTS, _TOKENS = int(Measure.REQUESTS), int(Measure.TOKENS)
_NAMES = {_REQUESTS: b"requests", _TOKENS: b"tokens"}


class Lacking(NamedTuple):
    """A limit is in the way that this worker may soon be lent more of; else this is the refusal."""

    refusal: Refusal


Taken = Hold | Refusal | Lacking | None
"""What came of trying; None where there is no limit."""


def take(book: QuotaBook, call: Call, now: float, *, is_again: bool = False) -> Taken:
    """Reserve what a request is likely to use, or say which limit is in its way.

    Args:
        is_again: It has asked before, and waited.
    """
    service = call.service.route
    meters, counts_tokens = book.meters_for(call.key_id, service.name)
    if not meters:
        return None
    if not counts_tokens:
        hold = book.take_one(meters, now, is_again=is_again)
        return hold if isinstance(hold, Hold) else _denied(hold, now)
    route = service.releases.get(call.assignment.release)
    prompt, completion, is_asked = estimate(call.kind, call.body, route)
    price = (route.price if route is not None else None) or FREE
    cost = (1, prompt + completion, _picodollars(price, prompt, completion))
    taken: Hold | Denial | None = None if is_again else book.take_at_once(meters, cost, now)
    if taken is None:
        least = cost if is_asked else (1, prompt, _picodollars(price, prompt, 0))
        taken = book.take(meters, cost, least, now, is_again=is_again)
    if isinstance(taken, Denial):
        return _denied(taken, now)
    taken.prompt_tokens = prompt
    taken.completion_tokens = completion
    return taken


def cost_of(
    hold: Hold, record: RequestRecord, route: ReleaseRoute | None, *, events: int
) -> tuple[Cost, bool]:
    """What a finished request has used, and whether that is an estimate.

    Where the engine does not say: the prompt by its size, and of the answer as many tokens as
    events were sent, or what was reserved for one that is not a stream. A request that failed
    before it was answered has used none; one whose client left while a replica worked on it has.
    """
    prompt, completion = record.prompt_tokens, record.completion_tokens
    is_estimate = False
    if prompt < 0 or (completion < 0 and record.endpoint != EMBEDDINGS):
        has_left = record.status == CLIENT_LEFT and record.attempts > 0
        was_answered = 200 <= record.status < 300 or events > 0 or has_left
        is_estimate = was_answered
        said = events if record.stream else hold.completion_tokens
        prompt = prompt if prompt >= 0 else hold.prompt_tokens * was_answered
        completion = completion if completion >= 0 else said * was_answered
    if record.stream and record.error and events > completion:
        # It ended early: what it had said of its use by then was not the last word.
        completion, is_estimate = events, True
    completion = max(0, completion)
    price = (route.price if route is not None else None) or FREE
    return (1, prompt + completion, _picodollars(price, prompt, completion)), is_estimate


def _picodollars(price: Price, prompt: int, completion: int) -> int:
    """As `Price.cost`, which is asked once for each price."""
    rates = _rates.get(price)
    if rates is None:
        if len(_rates) >= _PRICES_MAX:
            _rates.clear()
        rates = _rates[price] = (price.cost(1, 0), price.cost(0, 1))
    return prompt * rates[0] + completion * rates[1]


def headers(meters: tuple[Meter, ...], now: float) -> bytes:
    """`x-ratelimit-*`: of the limits on requests and on tokens, the one that is nearest."""
    if len(meters) == 1:
        return _lines(meters[0], _left(meters[0]), now)
    requests: Meter | None = None
    tokens: Meter | None = None
    requests_left = tokens_left = 0
    for meter in meters:
        measure, left = meter.measure, _left(meter)
        if measure == _REQUESTS:
            if requests is None or left < requests_left:
                requests, requests_left = meter, left
        elif measure == _TOKENS and (tokens is None or left < tokens_left):
            tokens, tokens_left = meter, left
    own = b"" if requests is None else _lines(requests, requests_left, now)
    return own if tokens is None else own + _lines(tokens, tokens_left, now)


def _left(meter: Meter) -> int:
    """What is left of the limit in this window, as far as this worker knows."""
    window = meter.window
    left = window.held - window.used + window.elsewhere
    return left if left > 0 else 0


def _lines(meter: Meter, left: int, now: float) -> bytes:
    """Of one limit; a budget in money has none. What stays the same for a second is kept."""
    names = _NAMES.get(meter.measure)
    if names is None:
        return b""
    reset_s = int(meter.window.end - now + 0.999)
    shown = meter.shown
    if shown is None or shown[0] != reset_s or shown[1] != meter.amount:
        before = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: " % (
            names,
            meter.amount,
            names,
        )
        after = b"\r\nx-ratelimit-reset-%b: %b\r\n" % (names, _duration(reset_s).encode())
        shown = meter.shown = (reset_s, meter.amount, before, after)
    return b"%b%d%b" % (shown[2], left, shown[3])


def _denied(denial: Denial, now: float) -> Refusal | Lacking:
    refusal = _refusal(denial, now)
    return Lacking(refusal) if denial.may_be_lent else refusal


def _refusal(denial: Denial, now: float) -> Refusal:
    limit = denial.meter.limit
    measure = limit.measure
    kind, unit = _WORDS[measure]
    of = "this API key" if limit.scope == "key" else f"the {limit.scope} `{limit.subject}`"
    if limit.scope == "key" and limit.subject == ANYONE.id:
        of = "this gateway"
    whole = _amount(measure, limit.amount)
    named = f"the limit of {whole} {unit} per {limit.period.value} of {of}"
    resets = _duration(denial.meter.window.end - now)
    if denial.retry_after_s is None:
        message = (
            f"The request asks for up to {_amount(measure, denial.asked)} {unit}, more than "
            f"{named} can ever give: ask for less, with max_tokens."
        )
    else:
        message = (
            f"{named[0].upper()}{named[1:]} is reached ({_amount(measure, denial.asked)} asked "
            f"for); it resets in {resets}. Try again in {denial.retry_after_s} s."
        )
    is_budget = measure is Measure.USD
    return Refusal(
        429,
        "insufficient_quota" if is_budget else "rate_limit_exceeded",
        message,
        type="insufficient_quota" if is_budget else kind,
        retry_after_s=denial.retry_after_s,
        headers=headers((denial.meter,), now),
    )


def _amount(measure: Measure, amount: int) -> str:
    return f"{amount / PICO:.6g}" if measure is Measure.USD else str(amount)


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `6m0s`."""
    left = max(0, int(seconds + 0.999))
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
