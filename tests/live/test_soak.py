"""A short soak; `make soak` runs a long one."""

from __future__ import annotations

import pytest

from support.installation import Installation
from support.soak import Plan, run_soak

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


async def test_under_load_kills_and_restarts_fail_no_request_and_leave_memory_flat(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    plan = Plan(
        seconds=120.0,
        kill_every_s=10.0,
        restart_every_s=30.0,
        rate_step=2.0,
        rate_s=2.0,
        sample_every_s=2.0,
    )
    soak = await run_soak(installation, [text for text, _ in questions], plan)
    assert soak.problems() == [], installation.log()
    assert len(soak.answers) > 100
    assert soak.continued + soak.streams_again > 0
