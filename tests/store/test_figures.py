from __future__ import annotations

import math
import random
from collections.abc import Callable

from fairlead.store.interface import Store
from fairlead.store.rows import FeedbackFigures, FeedbackRow, Quantiles, RequestRow, SpoolCursor

Make = Callable[..., RequestRow]
Give = Callable[..., FeedbackRow]


def nearest_rank(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def test_quantiles_are_exact_by_nearest_rank(store: Store, request_row: Make) -> None:
    chance = random.Random(7)
    for count, service in ((1, "one"), (2, "two"), (99, "odd"), (100, "even"), (777, "many")):
        values = [round(chance.uniform(0, 50), 1) for _ in range(count)]
        rows = [
            request_row(f"{service}{n}", 1.0, service=service, ttft_ms=value)
            for n, value in enumerate(values)
        ]
        store.ingest(service, rows, [], SpoolCursor(1, 1))
        (figures,) = store.release_figures(service, since=0.0, until=2.0)
        assert figures.ttft_ms == Quantiles(
            count, *(nearest_rank(values, percent) for percent in (50, 95, 99))
        )


def test_figures_are_per_service_and_release_within_the_span(
    store: Store, request_row: Make, feedback_row: Give
) -> None:
    rows = [
        request_row("q0", 0.5),
        request_row("q1", 1.0, stream=True, itl_ms=3.0),
        request_row("q2", 2.0, status=503, error="overloaded", ttft_ms=500.0),
        request_row("q3", 3.0, status=404, duration_ms=900.0),
        request_row("q4", 3.0, release="sha256:b", prompt_tokens=-1, completion_tokens=-1),
        request_row("q5", 4.0, release="sha256:b", error="cut_off"),
        request_row("q6", 3.0, service="shop"),
        request_row("q7", 5.0),
    ]
    given = [
        feedback_row("f0", "q0", 1.0),
        feedback_row("f1", "q1", 1.0),
        feedback_row("f2", "q1", 0.0),
        feedback_row("f4", "q4", 1.0),
    ]
    store.ingest("b1", rows, given, SpoolCursor(1, 1))
    a, b, shop = store.release_figures(since=1.0, until=5.0)
    assert (a.service, a.release, a.requests, a.errors, a.share) == (
        "bank",
        "sha256:a",
        3,
        1,
        3 / 5,
    )
    assert a.ttft_ms == Quantiles(1, 10.0, 10.0, 10.0)
    assert a.itl_ms == Quantiles(1, 3.0, 3.0, 3.0)
    assert a.duration_ms == Quantiles(1, 20.0, 20.0, 20.0)
    assert (a.prompt_tokens, a.completion_tokens) == (15, 21)
    assert a.feedback == {"correct": FeedbackFigures(2, 0.5)}
    assert (b.release, b.requests, b.errors, b.share) == ("sha256:b", 2, 1, 2 / 5)
    assert (b.prompt_tokens, b.completion_tokens, b.itl_ms) == (5, 7, None)
    assert (shop.service, shop.requests, shop.share) == ("shop", 1, 1.0)
    assert store.release_figures("shop", since=1.0, until=5.0) == [shop]


def test_there_are_no_figures_where_there_were_no_requests(store: Store) -> None:
    assert store.release_figures(since=0.0, until=1e10) == []


def test_requests_of_a_rollout_are_counted_by_release_within_a_span(
    store: Store, request_row: Make
) -> None:
    """Who is pinned counts, too; copies and what is outside the span do not."""
    rows = [
        request_row("q0", 1.0, rollout="ro-1", release="a", arm="champion"),
        request_row("q1", 1.5, rollout="ro-1", release="a", arm="champion"),
        request_row("q2", 2.0, rollout="ro-1", release="b", arm="canary"),
        request_row("q3", 2.0, rollout="ro-1", release="b", arm="shadow"),
        request_row("q4", 2.0, rollout="ro-2", release="b", arm="canary"),
        request_row("q5", 2.5, rollout="ro-1", release="b", arm="canary"),
    ]
    store.ingest("boot", rows, [], SpoolCursor(1, 1))
    assert store.arm_requests("ro-1", after=1.0, until=2.0) == {"a": 1, "b": 1}
    assert store.arm_requests("ro-3", after=0.0, until=9.0) == {}
