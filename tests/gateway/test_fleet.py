"""Replicas' health, and which of them a snapshot puts in and takes out. No sockets."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import msgspec
import pytest
from gateway_rig import A, B, route, snapshot

from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import (
    EJECTION_S_MAX,
    EJECTION_S_MIN,
    KEY_FILE_BYTES_MAX,
    OUTLIER_ATTEMPTS_MIN,
)
from fairlead.gateway.replicas.addressing import parse_base_url
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.wire.snapshot import Endpoint, Snapshot

URL = "http://127.0.0.1:9"


class Moments:
    def __init__(self) -> None:
        self.at = 100.0
        self.clock = Clock(monotonic=lambda: self.at, wall=lambda: 0.0)


class Heard:
    """A fleet and what it called."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.rooms = 0
        self.drained = 0
        self.fleet = Fleet(self.moments.clock, on_room=self._room, on_drained=self._drained)

    def _room(self) -> None:
        self.rooms += 1

    def _drained(self) -> None:
        self.drained += 1

    def only(self, routed: Snapshot, **environ: str) -> Replica:
        ((replica,),) = self.fleet.update(routed, environ).values()
        return replica


def replica(moments: Moments) -> Replica:
    return Replica(Endpoint(replica="r", base_url=URL), parse_base_url(URL), moments.clock)


def test_a_failure_ejects_for_a_time_that_doubles_up_to_a_bound() -> None:
    moments = Moments()
    one = replica(moments)
    for number in range(8):
        one.note_failure()
        ejected_s = one.ejected_until - moments.at
        assert ejected_s == pytest.approx(min(EJECTION_S_MIN * 2**number, EJECTION_S_MAX))
        assert not one.is_usable(one.ejected_until - 0.001)
        moments.at = one.ejected_until
        assert one.is_usable(moments.at)
    assert one.note_success()
    one.note_failure()
    assert one.ejected_until - moments.at == pytest.approx(EJECTION_S_MIN)


def test_failures_at_the_same_time_count_once() -> None:
    moments = Moments()
    one = replica(moments)
    for _ in range(5):
        one.note_failure()
    assert one.ejected_until - moments.at == pytest.approx(EJECTION_S_MIN)


def test_after_a_refused_connection_one_request_probes_until_it_is_connected() -> None:
    moments = Moments()
    one = replica(moments)
    one.note_failure(to_connect=True)
    moments.at = one.ejected_until
    one.take_slot()
    assert not one.is_usable(moments.at)
    assert one.note_connected()
    assert one.is_usable(moments.at)
    one.free_slot()
    one.note_failure(to_connect=True)
    moments.at = one.ejected_until
    one.take_slot()
    one.free_slot()  # The client left: somebody else may probe.
    assert one.is_usable(moments.at)


async def test_who_waits_is_let_go_on_when_one_that_turned_requests_away_may_be_asked() -> None:
    heard = Heard()
    routed = snapshot(route(A, URL, "http://127.0.0.1:10"))
    ((full, well),) = heard.fleet.update(routed, {}).values()
    for _ in range(OUTLIER_ATTEMPTS_MIN):
        heard.fleet.note_success(well)
        heard.fleet.note_refusal(full)
    assert full.is_ejected
    assert heard.rooms == 0
    assert heard.fleet._wake is not None
    heard.moments.at = full.ejected_until
    heard.fleet._ejection_over()
    assert heard.rooms == 1
    heard.fleet.note_alive(full)
    assert heard.rooms == 2, "it is there again"
    heard.fleet.close()


def test_replicas_are_kept_over_snapshots_and_shared_by_releases() -> None:
    heard = Heard()
    first = heard.only(snapshot(route(A, URL)))
    pools = heard.fleet.update(snapshot(route(A, URL), route(B, URL), version=2), {})
    assert pools["bank", A] == pools["bank", B] == (first,)


def test_a_replica_taken_out_is_open_until_its_last_request_ends() -> None:
    heard = Heard()
    old = heard.only(snapshot(route(A, URL)))
    old.take_slot()
    old.take_slot()
    heard.only(snapshot(route(A, "http://127.0.0.1:10"), version=2))
    assert heard.fleet.open_replicas == ("r-9",)
    heard.fleet.free_slot(old)
    assert (heard.drained, heard.fleet.is_draining) == (0, True)
    heard.fleet.free_slot(old)
    assert (heard.drained, heard.fleet.is_draining) == (1, False)
    assert heard.fleet.open_replicas == ()
    assert heard.rooms == 2


@pytest.mark.parametrize(
    ("url", "prefix", "port", "host_header"),
    [
        ("http://127.0.0.1:8000", "/v1", 8000, "127.0.0.1:8000"),
        ("http://h/", "/v1", 80, "h"),
        ("https://api.example.com/v1", "/v1", 443, "api.example.com"),
        ("https://h:8443/openai/v1/", "/openai/v1", 8443, "h:8443"),
        ("http://[::1]:9", "/v1", 9, "[::1]:9"),
    ],
)
def test_base_urls(url: str, prefix: str, port: int, host_header: str) -> None:
    address = parse_base_url(url)
    assert (address.prefix, address.port, address.host_header) == (prefix, port, host_header)
    assert address.is_tls == url.startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "http://",
        "http://u:p@h",
        "http://h/a b",
        "http://h/?q",
        "http://h/a\r\nx: y",
        "http://h:99999",
        "http://a..b",
        "http://" + "x" * 64,
        "file:///etc/passwd",
    ],
)
def test_what_is_no_base_url_is_left_out_with_a_warning(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    pools = Heard().fleet.update(snapshot(route(A, url)), {})
    assert pools["bank", A] == ()
    assert "is left out" in caplog.text


def test_a_providers_key_comes_from_its_variable_or_file_and_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    file = tmp_path / "key"
    file.write_text("sk-1\n")

    def with_key(**where: str) -> Snapshot:
        made = route(A, URL)
        endpoint = msgspec.structs.replace(made.endpoints[0], **where)
        return snapshot(msgspec.structs.replace(made, endpoints=(endpoint,)))

    assert heard.only(with_key(api_key_file=str(file))).authorization == "Bearer sk-1"
    file.write_text("sk-2")
    assert heard.only(with_key(api_key_file=str(file))).authorization == "Bearer sk-2"
    for beginning in heard.only(with_key(api_key_file=str(file))).beginnings.values():
        assert b"\r\nauthorization: Bearer sk-2\r\n" in beginning
    assert heard.only(with_key(api_key_env="X"), X="sk-3").authorization == "Bearer sk-3"
    assert heard.only(with_key()).authorization == ""
    assert caplog.text == ""
    assert heard.only(with_key(api_key_env="Y")).authorization == ""
    assert heard.only(with_key(api_key_env="X"), X="a\r\nb: c").authorization == ""
    for bad in (tmp_path / "no", tmp_path, "/dev/zero", "nul\0"):
        assert heard.only(with_key(api_key_file=str(bad))).authorization == ""
    file.write_text("x" * (KEY_FILE_BYTES_MAX + 1))
    assert heard.only(with_key(api_key_file=str(file))).authorization == ""
    assert f"larger than {KEY_FILE_BYTES_MAX} bytes" in caplog.text
    file.write_bytes(b"\xff")
    assert heard.only(with_key(api_key_file=str(file))).authorization == ""
    os.mkfifo(tmp_path / "pipe")  # must not be waited for
    assert heard.only(with_key(api_key_file=str(tmp_path / "pipe"))).authorization == ""
    assert "no usable key" in caplog.text
    assert "cannot be read" in caplog.text
    assert "sk-" not in caplog.text


def test_all_replicas_with_tls_share_one_context_that_verifies_and_others_have_none() -> None:
    heard = Heard()
    assert heard.only(snapshot(route(A, URL))).dialer.tls is None
    one = heard.only(snapshot(route(A, "https://a.example:1"), version=2)).dialer.tls
    two = heard.only(snapshot(route(A, "https://b.example:2"), version=3)).dialer.tls
    assert one is two
    assert one is not None
    assert one.verify_mode is ssl.CERT_REQUIRED
    assert one.check_hostname
