"""One rule says when a request was failed by the server."""

from __future__ import annotations

import pytest

from fairlead.domain.outcomes import REJECTED, failed_by_server, failed_for_judge


@pytest.mark.parametrize(
    ("status", "error", "failed"),
    [
        (200, "", False),
        (200, "upstream_cut", True),
        (200, "canary_unavailable", False),
        (200, "service_unavailable_fell_back", False),
        (502, "service_unavailable_fell_back", True),
        (400, REJECTED, False),
        (404, "", False),
        (429, "queue_full", True),
        (499, "client_closed", False),
        (502, "upstream_error", True),
        (503, "", True),
    ],
)
def test_the_server_answers_for_its_own_failures_only(
    status: int, error: str, failed: bool
) -> None:
    assert failed_by_server(status, error) is failed


def test_a_release_that_refuses_what_the_champion_takes_is_judged_for_it() -> None:
    assert failed_for_judge(400, REJECTED, 1)
    assert not failed_for_judge(400, "", 1)
    assert not failed_for_judge(499, "client_closed", 1)


def test_a_release_whose_replicas_die_is_judged_for_it_though_no_client_noticed() -> None:
    assert failed_for_judge(200, "", 2)
    assert not failed_for_judge(200, "", 1)
    assert failed_for_judge(200, "canary_unavailable", 1)
    assert failed_for_judge(200, "service_unavailable_fell_back", 1)
