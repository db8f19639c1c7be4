"""A gateway file: what it takes, and that each mistake is one line that says where and what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fairlead.domain.errors import ManifestError
from fairlead.gateway.replicas.addressing import parse_base_url
from fairlead.manifest.gateway_file import (
    gateway_file_schema,
    load_gateway_file,
    parse_gateway_file,
)
from fairlead.manifest.gateway_file.addresses import Listen, parse_provider, parse_replica

SHA = "ab" * 32
KEYS = f"keys:\n- {{name: k, sha256: {SHA}}}\n"
RELEASE = "services:\n- name: s\n  releases:\n  - name: r\n"
GOOD = KEYS + RELEASE + "    replicas: [http://h:8000]\n"

CASES: dict[str, tuple[str, list[str]]] = {
    "empty": ("", ["1: the file is empty"]),
    "no services": (KEYS, ['1: the gateway file needs the key "services"']),
    "an empty list of services": (
        KEYS + "services: []\n",
        ["3: services must have 1 or more items; there are 0"],
    ),
    "no keys": (
        GOOD[len(KEYS):],
        ['1: the gateway file needs "keys": at least one with name and sha256 '
         "(`fairlead gateway key` makes one), or none for a gateway that only this machine can "
         "reach"],
    ),
    "an empty list of keys": (
        "keys: []\n" + GOOD[len(KEYS):],
        ['1: keys needs "keys": at least one with name and sha256 '
         "(`fairlead gateway key` makes one), or none for a gateway that only this machine can "
         "reach"],
    ),
    "no keys asked for where everybody can reach it": (
        "listen: 0.0.0.0:7600\nkeys: none\n" + GOOD[len(KEYS):],
        ["2: keys must not be none where other machines can reach the gateway: make one with "
         "`fairlead gateway key`, or listen on 127.0.0.1"],
    ),
    "the key itself": (
        GOOD.replace(SHA, "fl-secret"),
        ["2: keys[0].sha256 must be the SHA-256 of the key in 64 hex digits; "
         "`fairlead gateway key` does"],
    ),
    "no address for traces": (
        GOOD + "tracing: {otlp: collector}\n",
        ['8: tracing.otlp must be an address such as http://127.0.0.1:4318, not "collector"'],
    ),
    "traces without an address": (
        GOOD + "tracing: {share: 5%}\n", ['8: tracing needs the key "otlp"'],
    ),
    "a key twice": (
        GOOD.replace(KEYS, KEYS + f"- {{name: l, sha256: {SHA.upper()}}}\n"),
        ["3: keys[1].sha256 is the sha256 of an earlier key"],
    ),
    "a limit beside the others' place": (
        GOOD.replace("{name: k,", "{name: k, usd_per_month: 5,"),
        ['2: unknown key "usd_per_month" in keys[0] (it belongs in "keys[].limits")'],
    ),
    "a limit that is none": (
        GOOD.replace("{name: k,", "{name: k, limits: {requests_per_minute: 0},"),
        ["2: keys[0].limits.requests_per_minute must be at least 1, not 0"],
    ),
    "a tenant that is not there": (
        "tenants: [{name: acme, limits: {usd_per_day: 5}}]\n"
        + GOOD.replace("{name: k,", "{name: k, tenant: acne,"),
        ['3: keys[0].tenant names no tenant of `tenants`: "acne" (did you mean "acme"?)'],
    ),
    "two tenants of one name": (
        "tenants: [{name: acme}, {name: acme}]\n" + GOOD,
        ['1: tenants[1].name "acme" is the name of an earlier tenant'],
    ),
    "a limit for all beside keys": (
        "limits: {usd_per_day: 5}\n" + GOOD,
        ["1: limits is only for `keys: none`; give each key its limits, or several a tenant"],
    ),
    "an origin beside keys": (
        "allow_origins: ['https://x']\n" + GOOD,
        ["1: allow_origins is only for `keys: none`"],
    ),
    "an origin that is none": (
        "allow_origins: [chat.example]\n" + GOOD,
        ["1: allow_origins[0] must be an origin such as https://chat.example:8443, not "
         '"chat.example"'],
    ),
    "a host with a port": (
        "allow_hosts: ['a:80']\n" + GOOD,
        ['1: allow_hosts[0] must be a host\'s name or address without a port, not "a:80"'],
    ),
    "a fallback that is not there": (
        GOOD + "  fallbacks: [t]\n",
        ['8: services[0].fallbacks[0] names no service of this file: "t"'],
    ),
    "a fallback to itself": (
        GOOD + "  fallbacks: [s]\n",
        ["8: services[0].fallbacks[0] is this service itself"],
    ),
    "an engine that is not known": (
        GOOD + "    engine: vlm\n",
        ['8: services[0].releases[0].engine must be "llama.cpp", "vllm" or "other", not "vlm"'],
    ),
    "copies to a release that has clients": (
        GOOD + "  shadow: {release: r, share: 10%}\n",
        ['8: services[0].shadow.release must name a release of weight 0, not "r"'],
    ),
    "an authority for what is not at https://": (
        GOOD + "    outbound: {ca_file: /ca.pem}\n",
        ["8: services[0].releases[0].outbound is only for places at https://"],
    ),
    "a certificate that is not there": (
        "tls: {cert: gone.pem, key: gone.key}\n" + GOOD,
        ['1: tls.cert names a file that is not there: "gone.pem"',
         '1: tls.key names a file that is not there: "gone.key"'],
    ),
    "two keys of one name": (
        GOOD.replace(KEYS, KEYS + f"- {{name: k, sha256: {'cd' * 32}}}\n"),
        ['3: keys[1].name "k" is the name of an earlier key'],
    ),
    "two services of one name": (
        GOOD + "- name: s\n  releases:\n  - {name: r, replicas: [http://h:1]}\n",
        ['8: services[1].name "s" is the name of an earlier service'],
    ),
    "two releases of one name": (
        GOOD + "  - {name: r, replicas: [http://h:1]}\n",
        ['8: services[0].releases[1].name "r" is the name of an earlier release'],
    ),
    "an unknown key on top": (
        "worker: 2\n" + GOOD,
        ['1: unknown key "worker" (did you mean "workers"?)'],
    ),
    "a key in the wrong place": (
        GOOD + "    temperature: 0\n",
        ['8: unknown key "temperature" in services[0].releases[0] '
         '(it belongs in "services[].releases[].sampling")'],
    ),
    "an unknown key of a replica": (
        GOOD.replace("[http://h:8000]", "\n    - http://a:1\n    - {url: http://b:1, slot: 2}"),
        ['9: unknown key "slot" in services[0].releases[0].replicas[1] (did you mean "slots"?)'],
    ),
    "a key of a provider in clear text": (
        GOOD.replace("replicas: [http://h:8000]", "url: https://h/v1\n    api_key: sk-1"),
        ['8: unknown key "api_key" in services[0].releases[0] (did you mean "api_key_env"?)'],
    ),
    "a key of a provider where its place belongs": (
        GOOD.replace("replicas: [http://h:8000]", "url: https://h/v1\n    api_key_env: sk-1"),
        ["8: services[0].releases[0].api_key_env must be the name of an environment variable "
         "(never the key itself)"],
    ),
    "a key that would go out unencrypted": (
        GOOD + "    api_key_env: K\n",
        ["7: services[0].releases[0].replicas[0] would get its key unencrypted (h:8000); use "
         "https://"],
    ),
    "two places for a key": (
        GOOD.replace("replicas: [http://h:8000]",
                     "url: https://h/v1\n    api_key_env: K\n    api_key_file: /k"),
        ["9: services[0].releases[0].api_key_file is one place too many: api_key_env is given "
         "too"],
    ),
    "a provider and replicas": (
        GOOD + "    url: https://h/v1\n",
        ["7: services[0].releases[0].replicas are one place too many: url is given too"],
    ),
    "nobody who serves it": (
        KEYS + RELEASE,
        ['6: services[0].releases[0] needs "replicas" (base URLs) or the "url" of a provider'],
    ),
    "readers of metrics that are none": (
        GOOD + "metrics: {access: locall}\n",
        ['8: metrics.access must be "local", "token" or "open", not "locall"'],
    ),
    "metrics for a token that is nowhere": (
        GOOD + "metrics: {access: token}\n",
        ["8: metrics.access needs token_env or token_file"],
    ),
    "metrics for all, and a token": (
        GOOD + "metrics: {access: open, token_env: T}\n",
        ["8: metrics.access asks for no token: leave token_env and token_file out"],
    ),
    "a model twice": (
        GOOD.replace("replicas: [http://h:8000]", "url: openai://h/v1?model=a\n    model: b"),
        ["8: services[0].releases[0].model is given in the url too"],
    ),
    "no weight at all": (
        GOOD + "    weight: 0\n",
        ["5: services[0].releases must have a weight above 0 in one of them"],
    ),
    "a weight below zero": (
        GOOD + "    weight: -1\n",
        ["8: services[0].releases[0].weight must be at least 0, not -1"],
    ),
    "a share for a weight": (
        GOOD + "    weight: 10%\n",
        ['8: services[0].releases[0].weight must be a number, not "10%"'],
    ),
    "a port alone": (
        "listen: 7600\n" + GOOD,
        ["1: listen must be an address such as 127.0.0.1:7600, not 7600"],
    ),
    "a port beyond all": (
        "listen: localhost:70000\n" + GOOD,
        ['1: listen must be an address such as 127.0.0.1:7600, not "localhost:70000"'],
    ),
    "a spool that is no folder": (
        "spool: 5\n" + GOOD,
        ["1: spool must be a folder, or off, not 5"],
    ),
    "a provider without TLS elsewhere": (
        GOOD.replace("replicas: [http://h:8000]", "url: http://h/v1"),
        ["7: services[0].releases[0].url would send prompts and keys unencrypted to another "
         "machine; use https://"],
    ),
    "a service name with a space": (
        GOOD.replace("name: s", "name: a b"),
        ["4: services[0].name must be a name of letters, digits and . _ : / @ - (not at its "
         'ends), at most 128 of them, not "a b"'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_that_says_where_and_what(name: str) -> None:
    text, expected = CASES[name]
    with pytest.raises(ManifestError) as caught:
        parse_gateway_file(text, Path("gateway.yaml"))
    assert caught.value.message.splitlines() == [f"gateway.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pw@h:1",
        "user:pw@h:1",
        "http://h:1/v1?key=sk-1",
        "http://h:1/#x",
        "http://h:0",
        "http://h:99999",
        "http://a b:1",
        "http://h:1/a b",
        "ftp://h",
        "h:8000",
        "http://",
        "http://hé:1",
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_gateway_file(GOOD.replace("http://h:8000", json.dumps(url)), Path("g.yaml"))
    assert caught.value.message.startswith("g.yaml:7: services[0].releases[0].replicas[0] must")
    assert "pw" not in caught.value.message
    assert "sk-1" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "base_url", "model"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1", None),
        ("https://h/openai/v1/", "https://h/openai/v1", None),
        ("openai://h/v1?model=a%2Fb", "https://h/v1", "a/b"),
        ("openai://h/v1", "https://h/v1", None),
        ("openai+http://127.0.0.1:8000/v1?model=m", "http://127.0.0.1:8000/v1", "m"),
        ("http://localhost:8000", "http://localhost:8000", None),
        ("http://[::1]:8000", "http://[::1]:8000", None),
    ],
)
def test_a_provider_can_be_written_in_both_ways(url: str, base_url: str, model: str | None) -> None:
    found = parse_provider(url)
    assert (found.base_url, found.model) == (base_url, model)
    parse_base_url(found.base_url)


@pytest.mark.parametrize(
    "url", ["http://h:8000", "http://10.0.0.1", "https://h.x/a/b", "http://[fd00::1]:8000/v1"]
)
def test_the_gateway_takes_every_base_url_that_the_file_may_have(url: str) -> None:
    parse_base_url(parse_replica(url).base_url)


def test_what_is_not_given_is_filled_in() -> None:
    file = parse_gateway_file(GOOD, Path("/etc/fairlead/gateway.yaml"))
    assert (file.listen, file.workers, file.spool) == (Listen("127.0.0.1", 7600), 1, None)
    [endpoint] = file.services[0].releases[0].endpoints
    assert endpoint.upstream.base_url == "http://h:8000"
    assert (endpoint.slots, endpoint.api_key_env) == (256, None)
    assert file.services[0].limits.attempts == 3


def test_a_spool_is_relative_to_the_file() -> None:
    file = parse_gateway_file("spool: records\n" + GOOD, Path("/etc/fairlead/gateway.yaml"))
    assert file.spool == Path("/etc/fairlead/records")
    assert parse_gateway_file("spool: off\n" + GOOD, Path("g.yaml")).spool is None


def test_what_a_replica_does_not_say_the_release_does() -> None:
    text = GOOD.replace(
        "replicas: [http://h:8000]",
        "slots: 8\n    api_key_env: A\n    replicas:\n    - https://a\n"
        "    - {url: https://b, slots: 2, api_key_file: /key}",
    )
    first, second = parse_gateway_file(text, Path("g.yaml")).services[0].releases[0].endpoints
    assert (first.slots, first.api_key_env, first.api_key_file) == (8, "A", None)
    assert (second.slots, second.api_key_env, second.api_key_file) == (2, None, "/key")


def test_a_file_that_is_not_there_says_where_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no such file") as caught:
        load_gateway_file(tmp_path / "gateway.yaml")
    assert "docs/gateway.md" in (caught.value.hint or "")


def _described(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in _described(part)]
    if not isinstance(schema, dict):
        return []
    lacking = [n for n, p in schema.get("properties", {}).items() if "description" not in p]
    return lacking + [name for part in schema.values() for name in _described(part)]


def test_its_schema_describes_every_key_and_accepts_what_the_loader_does() -> None:
    schema = json.loads(json.dumps(gateway_file_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert _described(schema) == []
    validator = jsonschema.Draft202012Validator(schema)
    for text in (GOOD, "spool: off\n" + GOOD, GOOD.replace(KEYS, "keys: none\n")):
        parse_gateway_file(text, Path("g.yaml"))
        validator.validate(yaml.safe_load(text.replace("off", "'off'")))
    for text in (KEYS, RELEASE, GOOD.replace("replicas", "replica"), "keys: []\n" + RELEASE):
        assert not validator.is_valid(yaml.safe_load(text))
