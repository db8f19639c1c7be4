"""Who may call a gateway that asks for no key."""

from __future__ import annotations

import pytest

from fairlead.gateway.front.door import Door

DOOR = Door({"gate.internal", "fd00::1"}, {"https://chat.example", "app://desk"})


def code(*headers: tuple[bytes, bytes]) -> str | None:
    refusal = DOOR.refusal(headers)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1", b"127.0.0.1:7600", b"127.8.9.1:80", b"localhost", b"LOCALHOST:1",
        b"localhost.:1", b"x.localhost", b"[::1]", b"[::1]:7600", b"gate.internal:80",
        b"GATE.internal", b"[fd00::1]:1", b"[fd00::1]",
    ],
)  # fmt: skip
def test_names_of_this_machine_and_those_that_are_allowed_are_served(host: bytes) -> None:
    assert code((b"Host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example", b"evil.example:7600", b"127.0.0.1.evil.example", b"localhost.evil.example",
        b"notlocalhost", b"10.0.0.1", b"127.1", b"2130706433", b"0.0.0.0", b"[::]", b"[fd00::2]",
        b"gate.internal.evil.example", b":80", b"[::1", b"127.0.0.1:80:80",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(host: bytes) -> None:
    assert code((b"host", host)) == "foreign_host"


@pytest.mark.parametrize(
    "origin",
    [b"https://chat.example", b"HTTPS://chat.example", b"app://desk", b"http://127.0.0.1:7600",
     b"https://127.0.0.1:7600"],
)  # fmt: skip
def test_allowed_origins_and_the_gateways_own_are_served(origin: bytes) -> None:
    assert code((b"host", b"127.0.0.1:7600"), (b"origin", origin)) is None


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"", b"http://127.0.0.1:3000", b"http://localhost:7600",
     b"https://chat.example.evil", b"http://chat.example"],
)  # fmt: skip
def test_pages_of_other_origins_are_refused(origin: bytes) -> None:
    assert code((b"host", b"127.0.0.1:7600"), (b"Origin", origin)) == "foreign_origin"


def test_one_good_origin_covers_for_no_other() -> None:
    both = [(b"origin", b"app://desk"), (b"origin", b"https://evil.example")]
    assert code((b"host", b"localhost"), *both) == "foreign_origin"
    assert code((b"host", b"localhost"), *reversed(both)) == "foreign_origin"


def test_without_a_host_only_pages_are_looked_at() -> None:
    assert code() is None
    assert code((b"origin", b"http://")) == "foreign_origin"


def test_the_refusal_says_what_to_do_and_repeats_nothing_that_could_mislead() -> None:
    refusal = DOOR.refusal([(b"host", b'evil\x1b`"' + b"x" * 500)])
    assert refusal is not None
    assert (refusal.status, refusal.type) == (403, "permission_error")
    assert "`allow_hosts`" in refusal.message
    assert "\x1b" not in refusal.message
    assert len(refusal.message) < 400
