"""What a service promises, beside its champion's figures."""

from __future__ import annotations

from fairlead.control.shipping.spec import Slos
from fairlead.control.views import SloView
from fairlead.store.rows import Quantiles, ReleaseFigures


def percentile(quantiles: Quantiles | None, which: str) -> float | None:
    """One of them by its name, such as `p95`; None where nothing was measured."""
    return None if quantiles is None else float(getattr(quantiles, which))


def slos_kept(slos: Slos, figures: ReleaseFigures | None) -> list[SloView]:
    """The champion's promises against its figures."""
    has = figures is not None and figures.requests > 0
    availability = 1 - figures.errors / figures.requests if figures and has else None
    measured = (
        ("availability", slos.availability, availability, True),
        (
            "ttft_p95_ms",
            slos.ttft_p95_ms,
            percentile(figures.ttft_ms, "p95") if figures else None,
            False,
        ),
        (
            "latency_p95_ms",
            slos.latency_p95_ms,
            percentile(figures.duration_ms, "p95") if figures else None,
            False,
        ),
    )
    return [
        SloView(
            name,
            target,
            value,
            None if value is None else (value >= target if more_is_better else value <= target),
        )
        for name, target, value, more_is_better in measured
        if target is not None
    ]
