"""The names of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import pytest

from fairlead.gateway.front.operations import _OPERATIONS
from fairlead.wire.gen_ai import operation_of

KNOWN = {"chat", "text_completion", "embeddings"}


def test_every_endpoint_that_generates_has_an_operation_of_the_conventions() -> None:
    kinds = {path.removeprefix("/v1/") for path in _OPERATIONS if path.startswith("/v1/")}
    asked = kinds - {"models", "feedback"}
    assert len(asked) == 5
    assert {operation_of(kind) for kind in asked} == KNOWN


@pytest.mark.parametrize("endpoint", ["", "something/new"])
def test_one_that_is_not_known_is_called_as_it_is(endpoint: str) -> None:
    assert operation_of(endpoint) == endpoint
