"""A compact set holds what a set holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollout.digests import DigestSet

DIGESTS = st.integers(min_value=0, max_value=2**64 - 1)


@given(st.lists(DIGESTS), DIGESTS)
def test_it_holds_what_was_added(added: list[int], other: int) -> None:
    mine = DigestSet()
    for digest in added:
        mine.add(digest)
    assert len(mine) == len(set(added))
    assert all(digest in mine for digest in added)
    assert (other in mine) == (other in added)
    mine.clear()
    assert len(mine) == 0
    assert other not in mine


def test_it_holds_many_that_are_alike_in_their_last_bits() -> None:
    mine = DigestSet()
    for digest in range(0, 5_000 << 12, 1 << 12):
        mine.add(digest)
    assert len(mine) == 5_000
    assert all(digest in mine for digest in range(0, 5_000 << 12, 1 << 12))
    assert 1 not in mine


def test_a_digest_takes_at_most_32_bytes() -> None:
    import random

    dice, mine = random.Random(1), DigestSet()
    for count in range(1, 200_001):
        mine.add(dice.getrandbits(64))
        if count >= 1_000 and count % 997 == 0:
            assert mine.bytes_held <= 32 * count
