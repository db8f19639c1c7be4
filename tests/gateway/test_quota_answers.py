"""What a request is likely to use, what it did use, and what clients are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.quota import PICO, Price, Quota
from fairlead.gateway.errors import Refusal
from fairlead.gateway.quotas.estimates import COMPLETION_TOKENS
from fairlead.gateway.quotas.quota import Hold, QuotaBook
from fairlead.gateway.quotas.quota_answers import cost_of, headers, take
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import KeyEntry, ReleaseRoute, ServiceRoute, Snapshot

T0 = 1_764_000_000.0


def service(**sampling: Any) -> ServiceRoute:
    route = ReleaseRoute("d", "d", (), sampling=sampling, price=Price(1.0, 2.0))
    return ServiceRoute("s", {"d": route}, "d")


def book(quota: Quota) -> QuotaBook:
    made = QuotaBook("seat", 0, sequence=0, hurry=lambda: None)
    keys = (KeyEntry("k", "k", "aa", quota=quota),)
    made.use(Snapshot(1, "00", keys=keys, services={"s": service()}), T0)
    return made


def call(body: bytes, kind: str = "chat/completions", **sampling: Any) -> Call:
    live = LiveService(service(**sampling), {})
    return Call(
        "r", "k", kind, body, Fields("s"), live, Assignment("champion", "d", "u", 0.0, "", 0)
    )


def held(body: bytes, *, kind: str = "chat/completions", **sampling: Any) -> Hold:
    limits = book(Quota(tokens_per_day=10**12))
    hold = take(limits, call(body, kind, **sampling), T0)
    assert isinstance(hold, Hold)
    return hold


@pytest.mark.parametrize(
    ("body", "completion"),
    [
        (b'{"max_tokens":7}', 7),
        (b'{"max_tokens":7,"max_completion_tokens":9}', 9),
        (b'{"max_tokens":7,"n":3}', 21),
        (b'{"max_tokens":0}', COMPLETION_TOKENS),
        (b'{"max_tokens":-5}', COMPLETION_TOKENS),
        (b'{"max_tokens":"many"}', COMPLETION_TOKENS),
        (b'{"max_tokens":true}', COMPLETION_TOKENS),
        (b'{"max_tokens":null}', COMPLETION_TOKENS),
        (b"{}", COMPLETION_TOKENS),
    ],
)
def test_the_reservation_is_what_the_client_asks_for(body: bytes, completion: int) -> None:
    hold = held(body)
    assert (hold.prompt_tokens, hold.completion_tokens) == (len(body) // 4 + 1, completion)


def test_the_releases_own_bound_counts_where_the_client_names_none() -> None:
    assert held(b"{}", max_tokens=40).completion_tokens == 40
    assert held(b'{"max_tokens":50}', max_tokens=40).completion_tokens == 50
    assert held(b"{}", kind="embeddings", max_tokens=40).completion_tokens == 0


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_whatever_a_client_says_of_the_size_breaks_nothing(value: object) -> None:
    body = msgspec.json.encode({"max_tokens": value, "n": value, "max_completion_tokens": value})
    assert held(body).completion_tokens > 0


def record(**changes: Any) -> RequestRecord:
    made = RequestRecord(
        "id", "s", "d", "champion", "r", "k", "u", 0.0, "", 0, "chat/completions", False,
        200, "", T0, 1.0, -1.0, 1.0, 5, 3, 1,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "events", "tokens", "is_estimate"),
    [
        ({}, 0, 8, False),
        ({"endpoint": "embeddings", "completion_tokens": -1}, 0, 5, False),
        ({"prompt_tokens": -1, "completion_tokens": -1}, 0, 5 + 10, True),
        ({"prompt_tokens": -1, "completion_tokens": -1, "stream": True}, 4, 5 + 4, True),
        ({"prompt_tokens": -1, "completion_tokens": -1, "stream": True, "status": 499}, 4, 9, True),
        ({"prompt_tokens": -1, "completion_tokens": -1, "status": 499}, 0, 5 + 10, True),
        ({"prompt_tokens": -1, "completion_tokens": -1, "status": 499, "attempts": 0}, 0, 0, False),
        ({"prompt_tokens": -1, "completion_tokens": -1, "status": 502}, 0, 0, False),
        ({"prompt_tokens": -1, "completion_tokens": -1, "status": 400}, 0, 0, False),
        # A stream that ended early: the engine's last word was of an earlier moment.
        ({"stream": True, "error": "upstream_cut"}, 9, 5 + 9, True),
        ({"stream": True, "error": "client_closed", "status": 499}, 9, 5 + 9, True),
        ({"stream": True, "error": "upstream_cut"}, 2, 8, False),
        ({"stream": True}, 9, 8, False),
    ],
)
def test_what_was_used_is_what_the_engine_says_or_an_estimate_that_is_marked(
    changes: dict[str, Any], events: int, tokens: int, is_estimate: bool
) -> None:
    hold = held(b'{"max_tokens":10}')
    cost, estimated = cost_of(hold, record(**changes), service().releases["d"], events=events)
    assert (cost[:2], estimated) == ((1, tokens), is_estimate)


def test_money_goes_by_the_price_of_the_release_that_answered() -> None:
    hold = held(b"{}")
    assert cost_of(hold, record(), service().releases["d"], events=0)[0][2] == 11 * PICO // 10**6
    assert cost_of(hold, record(), None, events=0)[0][2] == 0


def test_of_several_limits_the_headers_show_the_nearest() -> None:
    limits = book(Quota(requests_per_minute=5, tokens_per_minute=900, tokens_per_day=1000))
    take(limits, call(b'{"max_tokens":99}'), T0 + 1)
    shown = headers(limits.meters_for("k", "s")[0], T0 + 1).decode().split("\r\n")
    assert shown[:6] == [
        "x-ratelimit-limit-requests: 5",
        "x-ratelimit-remaining-requests: 4",
        "x-ratelimit-reset-requests: 59s",
        "x-ratelimit-limit-tokens: 900",
        f"x-ratelimit-remaining-tokens: {900 - 99 - 5}",
        "x-ratelimit-reset-tokens: 59s",
    ]
    assert headers((), T0) == b""


def test_of_two_limits_that_are_overdrawn_the_first_one_is_shown() -> None:
    """What was used turned out to be more than what was reserved."""
    limits = book(Quota(tokens_per_minute=90, tokens_per_day=30))
    hold = take(limits, call(b'{"max_tokens":1}'), T0 + 1)
    assert isinstance(hold, Hold)
    hold.settle((1, 100, 0))  # 10 over the one, 70 over the other.
    shown = headers(limits.meters_for("k", "s")[0], T0 + 1).decode().split("\r\n")
    assert shown[:2] == ["x-ratelimit-limit-tokens: 90", "x-ratelimit-remaining-tokens: 0"]


def test_a_day_is_told_in_hours() -> None:
    limits = book(Quota(tokens_per_day=10))
    refused = take(limits, call(b"x" * 400, "embeddings"), T0)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s is None
    first = take(limits, call(b"x" * 30, "embeddings"), T0)
    assert isinstance(first, Hold)
    later = take(limits, call(b"x" * 30, "embeddings"), T0)
    assert isinstance(later, Refusal)
    assert b"h" in later.headers.split(b"x-ratelimit-reset-tokens: ")[1]
    assert later.code == "rate_limit_exceeded"
