"""Each kind of bad release is rolled back on live traffic; `make bench-live-rollouts` does it 200
times, and counts how often an equal release is.
"""

from __future__ import annotations

import pytest

from support.installation import Installation
from support.live_rollouts import BAD, EQUAL, roll_out

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


async def test_bad_releases_of_eight_services_go_back_at_once_and_no_request_is_lost(
    installation: Installation,
) -> None:
    models = [*BAD, EQUAL, EQUAL]
    result = await roll_out(installation, models, services=len(models), rate=12.0)
    ends = {(ended.model, ended.view.outcome, ended.view.reason) for ended in result.rollouts}
    back = [ended.model for ended in result.rollouts if ended.view.outcome == "rolled_back"]
    assert set(BAD) <= set(back), ends
    # One rollout of an equal release in a hundred may go back, by chance.
    assert back.count(EQUAL) <= 1, ends
    assert all(ended.view.outcome in ("promoted", "rolled_back") for ended in result.rollouts), ends
    assert result.broken == []
    assert result.users.lost == []
    assert result.users.statuses[200] == result.users.feedback
    assert sum(result.users.statuses.values()) == result.users.feedback + result.users.errors
