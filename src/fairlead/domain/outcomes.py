"""When a request counts as failed by the server. One rule, for figures, promises and the judge.

A status of 500 or above is a failure; so is 429, because there was no room; so is an answer that
began well and went wrong (an error beside a status below 400, such as a stream that was cut). What
the client caused (other 4xx, leaving early) is not, nor is an answer by the champion that stood in
for its canary, or by a fallback of the service, nor what a guardrail of the release has ended.
"""

from __future__ import annotations

CLIENT_ERRORS = 400
NO_ROOM = 429
SERVER_ERRORS = 500

GIVEN_UP = 499
"""Status of a record whose client left, or whose copy was ended, before there was an outcome."""

SHADOW = "shadow"
"""Arm of a record that is of a copy: no client had this answer, so that it counts for none."""

SHADOW_ID_SUFFIX = ".shadow"
"""Stands behind the id of the request that a copy is of."""

STOOD_IN = "canary_unavailable"
"""Error of a record that belongs to the canary and was well answered by the champion."""

FELL_BACK = "service_unavailable_fell_back"
"""Error of a record whose service could not answer, and that a fallback service answered well."""

ANSWERED_WELL = ("", STOOD_IN, FELL_BACK)
"""Errors with which the client has its answer all the same."""

BLOCKED = "guardrail"
"""Error of a record whose request a guardrail of the release has ended: as declared, no failure."""

NOT_FAILED = (*ANSWERED_WELL, BLOCKED)
"""Errors that are no failure of the server beside a status below 400."""

REJECTED = "upstream_rejected"
"""Error of a record whose engine refused the request itself: with a 4xx, or a 501."""

_FAILED_FOR_JUDGE = (REJECTED, STOOD_IN, FELL_BACK)


def failed_by_server(status: int, error: str) -> bool:
    """Whether a request with this status and error code was failed by the server."""
    went_wrong = error not in NOT_FAILED and status < CLIENT_ERRORS
    return status >= SERVER_ERRORS or status == NO_ROOM or went_wrong


def failed_for_judge(status: int, error: str, attempts: int) -> bool:
    """Whether the judge counts it as failed: also what another try or nobody's fault has mended.

    A rejection by the engine counts: the arms get the same requests at random, so a champion
    rejects as often as its canary, unless the canary has come to refuse what the champion takes.
    A request that needed a second attempt counts: its client noticed nothing, but a release on
    which replicas die, or turn requests away, has lost it. So has one that needed a fallback of the
    service.
    """
    return failed_by_server(status, error) or error in _FAILED_FOR_JUDGE or attempts > 1
