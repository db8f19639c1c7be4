"""Which service answers for one that cannot. Pure."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.gateway.requests.fallback import next_fallback
from fairlead.wire.snapshot import Limits, ServiceRoute


def service(name: str, *fallbacks: str, body_bytes_max: int = 1000) -> ServiceRoute:
    limits = Limits(body_bytes_max=body_bytes_max)
    return ServiceRoute(name, {}, champion="sha256:a", limits=limits, fallbacks=fallbacks)


def found(
    *services: ServiceRoute,
    present: str = "a",
    usable: str = "abcd",
    body: int = 10,
    may_return: bool = False,
) -> str | None:
    known = {each.name: each for each in services}
    chosen = next_fallback(
        known, "a", present, body, lambda each: each.name in usable, may_return=may_return
    )
    return None if chosen is None else chosen.name


A, B, C = service("a", "b", "c"), service("b", "d"), service("c")


def test_the_first_usable_one_in_the_order_of_the_manifest() -> None:
    assert found(A, B, C) == "b"
    assert found(A, B, C, usable="c") == "c"
    assert found(A, B, C, usable="") is None


def test_after_one_that_failed_too_comes_the_next_and_then_none() -> None:
    assert found(A, B, C, present="b") == "c"
    assert found(A, B, C, present="c") is None


def test_one_that_only_waits_goes_back_to_what_is_there_again() -> None:
    assert found(A, B, C, present="c", may_return=True) == "a"
    assert found(A, B, C, present="c", usable="bc", may_return=True) == "b"
    assert found(A, B, C, present="c", usable="c", may_return=True) is None
    assert found(A, B, C, may_return=True) == "b"


def test_fallbacks_of_a_fallback_are_not_tried() -> None:
    assert found(service("a", "b"), B, service("d"), usable="d") is None


def test_what_is_not_there_or_takes_no_such_body_or_is_the_service_itself_is_left_out() -> None:
    assert found(A, C) == "c"
    assert found(A, service("b", body_bytes_max=5), C) == "c"
    assert found(service("a", "a", "c"), C) == "c"
    assert found(B) is None


@pytest.mark.parametrize("present", ["a", "b", "c"])
def test_a_service_without_fallbacks_has_none(present: str) -> None:
    assert found(msgspec.structs.replace(A, fallbacks=()), B, C, present=present) is None
