"""Results are kept by the bytes of what they are made of."""

from __future__ import annotations

import pytest

from fairlead.domain.sized_cache import ENTRY_BYTES, SizedCache, kept_by_size


def test_what_was_used_last_is_kept_and_nothing_is_made_twice() -> None:
    made: list[bytes] = []

    def make(key: bytes) -> int:
        made.append(key)
        return len(key)

    cache = SizedCache(make, 3 * (ENTRY_BYTES + 1))
    for key in (b"a", b"b", b"c", b"a", b"d", b"a", b"b"):
        assert cache(key) == 1
    assert made == [b"a", b"b", b"c", b"d", b"b"]


def test_as_many_small_ones_fit_as_there_is_room_for_and_few_large_ones() -> None:
    cache = SizedCache(len, 100_000)
    for number in range(1_000):
        cache(b"%05d" % number)
    assert len(cache) == 100_000 // (5 + ENTRY_BYTES)
    for number in range(1_000):
        cache(b"%05d" % number + b"x" * 20_000)
    assert len(cache) == 4
    assert cache.bytes_kept <= 100_000


def test_what_is_larger_than_all_the_room_drives_out_nothing() -> None:
    cache = SizedCache(len, 10_000)
    cache(b"a")
    assert cache(b"x" * 10_000) == 10_000
    assert len(cache) == 1


def test_what_cannot_be_made_is_not_kept() -> None:
    @kept_by_size(10_000)
    def number(key: bytes) -> int:
        """Its own words."""
        return int(key)

    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            number(b"x")
    assert number(b"7") == 7
    assert len(number) == 1
    assert number.__doc__ == "Its own words."


def test_what_results_weigh_can_be_told_otherwise_than_by_their_keys() -> None:
    cache = SizedCache(len, 100_000, lambda key: 40_000 if key.startswith(b"x") else 0)
    for key in (b"x1", b"a", b"x2", b"x3"):
        cache(key)
    assert cache.bytes_kept == 2 * 40_000 + 3 * ENTRY_BYTES
    assert len(cache) == 3
