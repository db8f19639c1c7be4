"""The decider on limits, on simulated time: one worker and its windows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.quota import PICO, Cost, Quota
from fairlead.gateway.quotas.quota import LEASE_S, Denial, Hold, QuotaBook
from fairlead.wire.quota import Grant
from fairlead.wire.snapshot import KeyEntry, Limits, ServiceRoute, Snapshot

T0 = 1_764_000_000.0
"""A moment at which a minute begins; the hour, the day and the month do not."""


def snapshot(quota: Quota, *, workers: int = 1, **more: Quota) -> Snapshot:
    service = ServiceRoute("s", {}, None, limits=Limits(quota=more.get("service", Quota())))
    return Snapshot(
        1,
        "00",
        keys=(KeyEntry("k", "k", "aa", tenant="t", quota=quota), KeyEntry("free", "f", "bb")),
        services={"s": service},
        tenants={"t": more["tenant"]} if "tenant" in more else {},
        workers=workers,
    )


class Rig:
    """A book with one snapshot."""

    def __init__(self, given: Snapshot, number: int = 0) -> None:
        self.hurried = 0
        self.book = QuotaBook("seat", number, sequence=0, hurry=self._hurry)
        self.book.use(given, T0)

    def _hurry(self) -> None:
        self.hurried += 1

    def take(self, now: float, tokens: int = 0, usd: int = 0, key: str = "k") -> Hold | Denial:
        cost: Cost = (1, tokens, usd)
        meters, counts_more = self.book.meters_for(key, "s")
        if not counts_more:
            return self.book.take_one(meters, now)
        return self.book.take_at_once(meters, cost, now) or self.book.take(meters, cost, cost, now)

    def used(self, name: str) -> int:
        return self.book.meters[name].window.used


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40), st.floats(0, 1)), max_size=80),
)
def test_one_worker_never_lets_through_more_than_the_limit(
    limit: int, asked: list[tuple[float, int, float]]
) -> None:
    """Requests and tokens, in every minute, whatever is settled in between."""
    rig = Rig(snapshot(Quota(requests_per_minute=limit, tokens_per_minute=100)))
    now, done = T0, []
    for wait_s, tokens, used in asked:
        now += wait_s
        hold = rig.take(now, tokens)
        if isinstance(hold, Hold):
            actual = int(tokens * used)
            hold.settle((1, actual, 0))
            done.append((int(now // 60), actual))
    for minute in {minute for minute, _ in done}:
        mine = [tokens for when, tokens in done if when == minute]
        assert len(mine) <= limit
        assert sum(mine) <= 100


def test_the_request_beyond_the_limit_is_told_when_the_minute_ends() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=2)))
    assert isinstance(rig.take(T0 + 10), Hold)
    assert isinstance(rig.take(T0 + 11), Hold)
    denied = rig.take(T0 + 12.5)
    assert isinstance(denied, Denial)
    assert denied.retry_after_s == 48
    assert isinstance(rig.take(T0 + 59.999), Denial)
    assert isinstance(rig.take(T0 + 60), Hold)


def test_all_limits_must_have_room_and_a_refused_request_takes_nothing() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=9), tenant=Quota(tokens_per_day=10)))
    assert isinstance(rig.take(T0, 8), Hold)
    denied = rig.take(T0, 3)
    assert isinstance(denied, Denial)
    assert denied.meter.limit.id == "tenant:t:tokens_per_day"
    assert rig.used("key:k:requests_per_minute") == 1
    assert isinstance(rig.take(T0, 2), Hold)


def test_a_key_without_limits_is_under_those_of_the_service_only() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=1), service=Quota(requests_per_minute=3)))
    assert rig.book.meters_for("free", "other") == ((), False)
    taken = [rig.take(T0, key=key) for key in ("k", "k", "free", "free", "free")]
    assert [isinstance(one, Hold) for one in taken] == [True, False, True, True, False]


def test_what_is_settled_lower_is_free_again_and_what_is_settled_higher_counts() -> None:
    rig = Rig(snapshot(Quota(tokens_per_minute=100)))
    first = rig.take(T0, 80)
    assert isinstance(first, Hold)
    assert isinstance(rig.take(T0, 30), Denial)
    first.settle((1, 10, 0))
    first.settle((1, 10, 0))
    assert rig.used("key:k:tokens_per_minute") == 10
    second = rig.take(T0, 30)
    assert isinstance(second, Hold)
    second.settle((1, 95, 0))
    assert rig.used("key:k:tokens_per_minute") == 105
    assert isinstance(rig.take(T0, 0), Denial)


def test_a_request_is_settled_in_the_window_that_it_came_in() -> None:
    rig = Rig(snapshot(Quota(tokens_per_minute=100)))
    hold = rig.take(T0 + 59, 80)
    assert isinstance(hold, Hold)
    assert isinstance(rig.take(T0 + 61, 50), Hold)
    hold.settle((1, 100, 0))
    assert rig.used("key:k:tokens_per_minute") == 50


def test_a_request_larger_than_the_limit_is_never_served_unless_it_may_be_smaller() -> None:
    rig = Rig(snapshot(Quota(tokens_per_minute=100)))
    denied = rig.take(T0, 101)
    assert isinstance(denied, Denial)
    assert denied.retry_after_s is None
    meters = rig.book.meters_for("k", "s")[0]
    assert isinstance(rig.book.take(meters, (1, 256, 0), (1, 20, 0), T0), Hold)
    assert rig.used("key:k:tokens_per_minute") == 100


def test_of_several_workers_each_begins_with_its_fair_share() -> None:
    let = []
    for number in range(3):
        rig = Rig(snapshot(Quota(requests_per_minute=10), workers=3), number)
        let.append(sum(isinstance(rig.take(T0 + n / 10), Hold) for n in range(20)))
    assert let == [4, 3, 3]


def test_with_little_left_it_asks_for_more_soon_and_less_often_in_vain() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=20), workers=2))
    for _ in range(5):
        rig.take(T0)
    assert rig.hurried == 1
    report = rig.book.report(T0)
    assert report is not None
    (use,) = report.uses
    assert (use.held, use.used, use.demand, use.need) == (10, 5, 5, 1)
    for n in range(1000):
        rig.take(T0 + n / 100)
    assert rig.hurried < 20


def test_alone_it_never_asks_for_more() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=3)))
    for _ in range(5):
        rig.take(T0)
    assert rig.hurried == 0


def test_a_grant_is_held_and_one_below_what_is_used_leaves_that() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=10), workers=2))
    limit, start = "key:k:requests_per_minute", int(T0)
    rig.book.apply((Grant(limit, start, 8, 10),), T0)
    assert [isinstance(rig.take(T0), Hold) for _ in range(9)] == [True] * 8 + [False]
    rig.book.apply((Grant(limit, start, 3, 2),), T0)
    assert rig.book.meters[limit].window.held == 8
    rig.book.apply((Grant(limit, start - 60, 10, 2), Grant("other", start, 1, 1)), T0)
    assert isinstance(rig.take(T0), Denial)


def test_without_control_for_long_what_is_beyond_the_fair_share_and_unused_comes_back() -> None:
    rig = Rig(snapshot(Quota(tokens_per_day=100), workers=2))
    limit, start = "key:k:tokens_per_day", int(T0 // 86400) * 86400
    rig.book.heard(T0)
    rig.book.apply((Grant(limit, start, 90, 100),), T0)
    rig.take(T0, 60)
    rig.book.report(T0 + LEASE_S - 1)
    assert rig.book.meters[limit].window.held == 90
    rig.book.report(T0 + LEASE_S)
    assert rig.book.meters[limit].window.held == 60


def test_a_changed_limit_counts_at_once_and_what_was_used_stays() -> None:
    rig = Rig(snapshot(Quota(requests_per_minute=4)))
    for _ in range(4):
        rig.take(T0)
    rig.book.use(snapshot(Quota(requests_per_minute=6)), T0)
    assert [isinstance(rig.take(T0), Hold) for _ in range(3)] == [True, True, False]
    rig.book.use(snapshot(Quota(requests_per_minute=3)), T0)
    assert isinstance(rig.take(T0), Denial)
    rig.book.use(snapshot(Quota()), T0)
    assert rig.book.is_empty
    assert rig.book.report(T0) is None


def test_the_next_process_on_the_seat_goes_on_with_what_was_used() -> None:
    given = snapshot(Quota(requests_per_minute=4, usd_per_month=1.0))
    rig = Rig(given)
    for _ in range(3):
        rig.take(T0, usd=5)
    kept = {use.limit: use for use in rig.book.to_keep(T0)}
    after = QuotaBook("seat", 0, sequence=9, hurry=lambda: None)
    after.kept = kept
    after.use(given, T0 + 90)
    meters = after.meters
    assert meters["key:k:requests_per_minute"].roll(T0 + 90).used == 0
    assert meters["key:k:usd_per_month"].window.used == 15


def test_with_more_limits_than_a_report_holds_they_take_turns() -> None:
    keys = tuple(
        KeyEntry(f"k{n}", "k", f"{n}", quota=Quota(requests_per_minute=5)) for n in range(9_000)
    )
    rig = Rig(Snapshot(1, "00", keys=keys))
    for key in keys:
        rig.take(T0, key=key.id)
    seen: set[str] = set()
    for _ in range(3):
        report = rig.book.report(T0)
        assert report is not None
        assert len(report.uses) == 4_000
        seen |= {use.limit for use in report.uses}
    assert len(seen) == 9_000


QUOTAS = st.builds(
    Quota,
    requests_per_minute=st.none() | st.integers(1, 20),
    tokens_per_minute=st.none() | st.integers(1, 100),
    tokens_per_day=st.none() | st.integers(1, 300),
    usd_per_day=st.none() | st.integers(1, 50).map(float),
)


@given(
    QUOTAS,
    st.lists(
        st.tuples(st.floats(0, 30), st.integers(0, 40), st.integers(0, 30), st.floats(0, 1)),
        max_size=40,
    ),
)
def test_what_is_taken_at_once_is_taken_as_by_the_whole_way(
    quota: Quota, asked: list[tuple[float, int, int, float]]
) -> None:
    """Every window is the same after each request, and so is what was lacking."""
    known = snapshot(quota, workers=2)
    short, long = Rig(known, number=1), Rig(known, number=1)
    now = T0
    for wait_s, tokens, usd, used in asked:
        now += wait_s
        cost: Cost = (1, tokens, usd * PICO)
        one = short.take(now, tokens, usd * PICO)
        other = long.book.take(long.book.meters_for("k", "s")[0], cost, cost, now)
        assert type(one) is type(other)
        if isinstance(one, Hold) and isinstance(other, Hold):
            was = (1, int(used * tokens), int(used * usd * PICO))
            one.settle(was)
            other.settle(was)
        assert _windows(short.book) == _windows(long.book)
        assert short.hurried == long.hurried


def _windows(book: QuotaBook) -> list[tuple[int, ...]]:
    windows = [meter.window for meter in book.meters.values()]
    return [
        (w.start, w.end, w.held, w.used, w.demand, w.need, w.base, w.elsewhere) for w in windows
    ]
