"""A model's address says exactly one thing, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import RemoteModel
from fairlead.registry.sources import HubAddress, LocalAddress, parse_address


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/m/b.gguf", LocalAddress(Path("/m/b.gguf"))),
        ("hf://org/repo@main", HubAddress("org/repo", "main")),
        ("hf://org/repo@v1.0/q4/m.gguf", HubAddress("org/repo", "v1.0", "q4/m.gguf")),
        ("hf://org/repo@refs%2Fpr%2F1", HubAddress("org/repo", "refs/pr/1")),
        ("openai://h/v1?model=m", RemoteModel("https://h/v1", "m")),
        ("openai://H.Example:443/v1/?model=a%2Fb", RemoteModel("https://h.example/v1", "a/b")),
        ("openai://h:8443?model=m", RemoteModel("https://h:8443/v1", "m")),
        ("openai+http://127.0.0.1:80/x?model=m", RemoteModel("http://127.0.0.1/x", "m")),
        ("openai+http://[::1]:8000/v1?model=m", RemoteModel("http://[::1]:8000/v1", "m")),
        ("openai+http://localhost:8000?model=m", RemoteModel("http://localhost:8000/v1", "m")),
    ],
)
def test_an_address_is_read(text: str, meant: object) -> None:
    assert parse_address(text) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not absolute"),
        ("m.gguf", "is not absolute"),
        ("hf://org/repo", "names no revision"),
        ("hf://org/repo/m.gguf", "names no revision"),
        ("hf://repo@main", "expected hf://"),
        ("hf://../x@main", "expected hf://"),
        ("hf://org/repo@main/../m.gguf", "is not a path within"),
        ("hf://org/repo@main//m.gguf", "is not a path within"),
        ("oci://registry/m:1", "not yet supported"),
        ("s3://bucket/m", "unknown kind of model address s3://"),
        ("openai://h/v1", "names no model"),
        ("openai://h/v1?model=", "names no model"),
        ("openai://h/v1?model=a&model=b", "names no model"),
        ("openai://h/v1?model=a&key=b", "expected openai://"),
        ("openai://h/v1?model=a#x", "expected openai://"),
        ("openai:///v1?model=a", "expected openai://"),
        ("openai://h:x/v1?model=a", "expected openai://"),
        ("openai+http://example.com/v1?model=a", "plain HTTP is for loopback only"),
        ("openai+http://127.0.0.1.example.com/v1?model=a", "plain HTTP is for loopback only"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(text)
    assert why in caught.value.message


def test_a_secret_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="holds credentials") as caught:
        parse_address("openai://user:hunter2@h/v1?model=m")
    assert "hunter2" not in str(caught.value)
