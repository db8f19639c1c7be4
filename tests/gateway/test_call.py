"""What a request has around it."""

from __future__ import annotations

import random

import pytest

from fairlead.gateway.quotas.quota import Hold
from fairlead.gateway.replicas.affinity import prefix_of
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.tracing import UNTRACED, Trace
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.snapshot import ServiceRoute


@pytest.mark.interpreted  # A compiled class does not say what it has.
def test_without_its_trace_a_request_is_the_same() -> None:
    body = b'{"model":"bank","messages":[]}'
    call = Call(
        "r", "k", "chat/completions", body, Fields("bank"),
        LiveService(ServiceRoute("bank", {}, None), {}),
        Assignment("champion", "d", "u", 0.0, "", 0), 3,
    )  # fmt: skip
    assert call.untraced() is call
    call.hold = Hold((), ())
    call.prefix = prefix_of(body)
    call.stratum = 2
    call.trace = Trace("00-a-b-01", "a-b", "a", random.Random(1))
    copied = call.untraced()
    assert copied.trace is UNTRACED
    others = [name for name in Call.__slots__ if name != "trace"]
    assert [getattr(copied, name) for name in others] == [getattr(call, name) for name in others]
    untold = Call("", "", "", b"", call.fields, call.service, call.assignment)
    same = [name for name in others if getattr(untold, name) == getattr(call, name)]
    assert same == ["assignment", "fields", "service"], "all others are told apart by this"
