"""Where connections may go: the rules, without any I/O."""

from __future__ import annotations

import pytest

from fairlead.domain.outbound import (
    Proxy,
    allowed,
    check_host,
    connect_request,
    is_refused,
    parse_proxy,
    tunnel_refusal,
    without_credentials,
)


@pytest.mark.parametrize(
    "host", ["api.example.com", "localhost", "a_b-c.svc", "127.0.0.1", "10.0.0.7", "::1", "fd00::1"]
)
def test_names_and_plain_addresses_are_hosts(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "a..b", ".a", "-" * 64, "a b", "a/b", "a@b", "a\\b", "ⓐ.example", "2130706433", "127.1",
     "0x7f000001", "0177.0.0.1", "1.2.3.4.5", "0", "0.0.0.0", "::", "[::1]", "fe80::1%eth0",
     "a.example.0x7f", "255.255.255.255", "224.0.0.1", "ff02::1"],
)  # fmt: skip
def test_what_some_software_reads_as_another_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_host(host)


LINK_LOCAL = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
]


@pytest.mark.parametrize("address", LINK_LOCAL)
def test_link_local_and_metadata_addresses_are_refused_unless_they_are_meant(address: str) -> None:
    assert is_refused(address)
    with pytest.raises(ValueError, match="not an address that requests are sent to"):
        check_host(address)
    assert not is_refused(address, link_local=True)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:0.0.0.0"],
)  # fmt: skip
def test_addresses_of_nobody_and_loopback_in_disguise_are_always_refused(address: str) -> None:
    assert is_refused(address, link_local=True)


def test_of_a_names_addresses_the_allowed_ones_are_used_in_their_order() -> None:
    assert allowed(["169.254.169.254", "10.0.0.2", "10.0.0.1", "10.0.0.2"]) == [
        "10.0.0.2",
        "10.0.0.1",
    ]
    assert allowed(["169.254.169.254"]) == []


def test_a_proxy_is_a_host_and_a_port() -> None:
    assert parse_proxy("http://proxy.example:8080") == Proxy("proxy.example", 8080, False)
    assert parse_proxy("http://proxy.example/") == Proxy("proxy.example", 3128, False)
    assert parse_proxy("https://[fd00::1]") == Proxy("fd00::1", 443, True)


@pytest.mark.parametrize(
    "url",
    ["proxy.example:80", "socks5://p:1", "http://", "http://p/x", "http://p?x", "http://u:p@p:1",
     "http://p#x", "http://p\\@q", "http://p q", "http://169.254.169.254", "http://p:99999",
     "http://ⓟ"],
)  # fmt: skip
def test_what_is_no_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_proxy(url)


def test_a_tunnel_is_asked_for_by_host_and_port() -> None:
    assert connect_request("a.example", 443, "") == (
        b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n"
    )
    asked = connect_request("fd00::1", 443, "me:secret")
    assert asked.startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n")
    assert b"proxy-authorization: Basic bWU6c2VjcmV0\r\n" in asked


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", None),
        (b"HTTP/1.0 200\r\nx: y\r\n\r\n", None),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407"),
        (b"hello\r\n\r\n", "the proxy does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK", "the proxy sent more than its answer"),
    ],
)
def test_a_proxys_answer_is_a_tunnel_or_says_why_not(answer: bytes, refusal: str | None) -> None:
    assert tunnel_refusal(answer) == refusal


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:pw@host/x", "http://…@host/x"),
        ("HTTPS://token@host", "HTTPS://…@host"),
        ("http://user:a://b@c@host", "http://…@host"),
        ("user:pw@host:4318", "…@host:4318"),
        ("//user:p/w@host", "…@host"),
        ("grpc://user:pw@host", "grpc://…@host"),
        ("http://host:4318/v1", "http://host:4318/v1"),
        ("hf://org/repo@main", "hf://org/repo@main"),
        ("somebody@example.com", "somebody@example.com"),
        ("", ""),
    ],
)
def test_credentials_in_an_address_are_not_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
