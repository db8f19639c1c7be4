"""The special functions, against closed forms and published tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.special import (
    beta_cdf,
    beta_quantile,
    normal_quantile,
    normal_tail,
    t_quantile,
    t_tail,
)


@given(st.floats(0.001, 0.999), st.floats(0.1, 50), st.floats(0.1, 50))
def test_beta_is_symmetric(x: float, a: float, b: float) -> None:
    """I_x(a, b) = 1 - I_{1-x}(b, a)."""
    assert beta_cdf(x, a, b) == pytest.approx(1 - beta_cdf(1 - x, b, a), abs=1e-12)


@given(st.floats(0.001, 0.999), st.floats(0.2, 300))
def test_beta_with_one_parameter_one_is_a_power(x: float, a: float) -> None:
    """I_x(a, 1) = x^a."""
    assert beta_cdf(x, a, 1) == pytest.approx(x**a, rel=1e-10, abs=1e-300)


@given(st.integers(1, 60), st.data(), st.floats(0.01, 0.99))
def test_beta_is_a_binomial_tail(n: int, data: st.DataObject, p: float) -> None:
    """P(X >= k) of a binomial is I_p(k, n-k+1)."""
    k = data.draw(st.integers(1, n))
    tail = math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert beta_cdf(p, k, n - k + 1) == pytest.approx(tail, rel=1e-9, abs=1e-14)


@given(st.floats(0.001, 0.999), st.floats(0.3, 80), st.floats(0.3, 80))
def test_beta_quantile_inverts(p: float, a: float, b: float) -> None:
    """The quantile of a probability has that probability below it."""
    assert beta_cdf(beta_quantile(p, a, b), a, b) == pytest.approx(p, abs=1e-9)


def test_tables_of_normal_and_t() -> None:
    """The quantiles are those printed in every table."""
    assert normal_quantile(0.975) == pytest.approx(1.959963984540054, abs=1e-12)
    assert normal_quantile(0.95) == pytest.approx(1.6448536269514722, abs=1e-12)
    assert normal_tail(1.959963984540054) == pytest.approx(0.025, abs=1e-14)
    assert t_quantile(0.975, 10) == pytest.approx(2.2281388519649385, abs=1e-9)
    assert t_quantile(0.95, 1) == pytest.approx(6.313751514675037, abs=1e-8)
    assert t_tail(-2.0, 5) == pytest.approx(1 - t_tail(2.0, 5), abs=1e-15)


def test_arguments_outside_are_refused() -> None:
    """No silent nonsense for probabilities of 0 and 1 or parameters of 0."""
    for call in (
        lambda: normal_quantile(1.0),
        lambda: t_quantile(0.0, 5),
        lambda: beta_cdf(0.5, 0.0, 1.0),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()
