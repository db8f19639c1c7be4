"""How a manifest says where a provider is, and by which way it is reached."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fairlead.domain.errors import ManifestError
from fairlead.manifest import RemoteSource, parse_manifest
from support.corpora import each_url, needs_corpora


def manifest(model: str, outbound: str = "{}") -> str:
    return f"service: a\nrelease:\n  model: {json.dumps(model)}\n  outbound: {outbound}\n"


def load(text: str, tmp_path: Path) -> RemoteSource:
    source = parse_manifest(text, tmp_path / "fairlead.yaml").release.model
    assert isinstance(source, RemoteSource)
    return source


def test_authority_proxy_and_link_local_addresses_are_declared(tmp_path: Path) -> None:
    text = manifest(
        "openai://169.254.10.10:8000/v1?model=m",
        "{ca_file: /etc/ca.pem, proxy: 'http://proxy.example:3128', proxy_auth_env: PROXY, "
        "link_local: true}",
    )
    outbound = parse_manifest(text, tmp_path / "fairlead.yaml").release.outbound
    assert outbound.model_dump() == {
        "ca_file": "/etc/ca.pem",
        "proxy": "http://proxy.example:3128",
        "proxy_auth_env": "PROXY",
        "link_local": True,
    }


@pytest.mark.parametrize(
    ("model", "outbound", "told"),
    [
        ("openai://169.254.169.254/v1?model=m", "{}", "not an address that requests are sent to"),
        ("openai://[fd00:ec2::254]/v1?model=m", "{}", "not an address that requests are sent to"),
        ("openai://2852039166/v1?model=m", "{}", "no host name or address"),
        ("openai://h/v1?model=m", "{proxy: 'http://u:p@h:1'}", "name proxy_auth_env"),
        ("openai://h/v1?model=m", "{proxy: proxy.example}", "a proxy looks like http://"),
        ("openai://h/v1?model=m", "{proxy_auth_env: PROXY}", "needs a proxy"),
        ("openai://h/v1?model=m", "{ca_file: ca.pem}", "ca_file"),
    ],
)
def test_what_cannot_be_used_is_an_error_with_its_reason(
    tmp_path: Path, model: str, outbound: str, told: str
) -> None:
    with pytest.raises(ManifestError) as error:
        load(manifest(model, outbound), tmp_path)
    assert told in str(error.value)


def test_only_a_provider_has_a_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ManifestError, match="only for a model at openai://"):
        parse_manifest(manifest("m.gguf", "{link_local: true}"), tmp_path / "fairlead.yaml")


@needs_corpora
@each_url
def test_a_url_of_the_corpus_is_refused_or_is_the_host_that_it_shows(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError):
        load(manifest(url), tmp_path)
    for scheme in ("openai", "openai+http"):
        _, _, rest = url.partition("//")
        try:
            source = load(manifest(f"{scheme}://{rest.rstrip('/')}/v1?model=m"), tmp_path)
        except ManifestError:
            continue
        shown = rest.partition("/")[0].lower()
        assert urlsplit(source.base_url).netloc.lower() == shown
        assert not set(shown) & set("@\\%#? \t\r\n")
