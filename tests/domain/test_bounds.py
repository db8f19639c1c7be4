"""A declared number that is out of its bounds is refused with its place and the bounds."""

from __future__ import annotations

import math

import pytest

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_number_within_its_bounds_is_taken(value: float) -> None:
    check_between("share", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [-1e-9, 1.5, math.inf, math.nan])
def test_one_that_is_out_of_them_or_none_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_between("share", value, 0.0, 1.0)
    assert refused.value.message == f"share: {value:g} is not between 0 and 1"


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, math.nan])
def test_the_least_one_may_be_out_of_them(value: float) -> None:
    check_between("rate", 1e-9, 0.0, 1.0, above=True)
    with pytest.raises(InvalidInput, match=r"^rate: .* is not above 0 and at most 1$"):
        check_between("rate", value, 0.0, 1.0, above=True)
