"""Where a variable of the environment is named: none of fairlead's own secrets, anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fairlead.domain.errors import FairleadError
from fairlead.manifest import manifest_schema, parse_manifest
from fairlead.manifest.gateway_file import gateway_file_schema, parse_gateway_file

REMOTE = "service: bank\nrelease:\n  model: openai://h/v1?model=m\n"
PROXY = "  outbound: {proxy: 'http://proxy:3128', proxy_auth_env: NAME}\n"
JUDGE = "judge: {model: 'openai://h/v1?model=j', api_key_env: NAME}\ncapture: {share: 100%}\n"
QUERY = "{name: q, query: up, at_most: 1}"
ROLLOUT = (
    f"rollout:\n  prometheus:\n    url: https://prom\n    token_env: NAME\n    guards: [{QUERY}]\n"
)
GATEWAY = (
    "keys: none\nservices:\n- name: bank\n  releases:\n  - name: a\n"
    "    url: https://h/v1\n    api_key_env: NAME\n"
)
REPLICA = (
    "keys: none\nservices:\n- name: bank\n  releases:\n  - name: a\n"
    "    replicas: [{url: 'https://h', api_key_env: NAME}]\n"
)
OUTWARD = (
    "keys: none\nservices:\n- name: bank\n  releases:\n  - name: a\n    url: https://h/v1\n"
    "    outbound: {proxy: 'http://proxy:3128', proxy_auth_env: NAME}\n"
)
METRICS = f"{GATEWAY.replace('NAME', 'K')}metrics: {{access: token, token_env: NAME}}\n"


@pytest.mark.parametrize("own", ["FAIRLEAD_CONTROL_TOKEN", "ALERT_PAGER"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{REMOTE}  api_key_env: NAME\n", "release.api_key_env"),
        (REMOTE + PROXY, "release.outbound.proxy_auth_env"),
        (REMOTE + JUDGE, "judge.api_key_env"),
        (REMOTE + ROLLOUT, "rollout.prometheus.token_env"),
    ],
)
def test_a_manifest_names_no_secret_of_the_installation(text: str, place: str, own: str) -> None:
    parse_manifest(text.replace("NAME", "PROVIDER_KEY"), Path("fairlead.yaml"))
    with pytest.raises(FairleadError) as refused:
        parse_manifest(text.replace("NAME", own), Path("fairlead.yaml"))
    assert f"{place} must not be one of {own.split('_')[0]}_*" in str(refused.value)


@pytest.mark.parametrize("own", ["FAIRLEAD_CONTROL_TOKEN", "ALERT_PAGER"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GATEWAY, "services[0].releases[0].api_key_env"),
        (REPLICA, "services[0].releases[0].replicas[0].api_key_env"),
        (OUTWARD, "services[0].releases[0].outbound.proxy_auth_env"),
        (METRICS, "metrics.token_env"),
    ],
)
def test_nor_does_a_gateway_file(text: str, place: str, own: str) -> None:
    parse_gateway_file(text.replace("NAME", "PROVIDER_KEY"), Path("gateway.yaml"))
    with pytest.raises(FairleadError) as refused:
        parse_gateway_file(text.replace("NAME", own), Path("gateway.yaml"))
    assert f"{place} must not be one of {own.split('_')[0]}_*" in str(refused.value)


def test_editors_are_told_as_well() -> None:
    """By the pattern in the JSON Schemas."""
    for schema in (manifest_schema(), gateway_file_schema()):
        patterns = set(re.findall(r'"pattern": "(\^[^"]*FAIRLEAD_[^"]*)"', json.dumps(schema)))
        [pattern] = patterns
        assert re.fullmatch(pattern, "PROVIDER_KEY")
        for name in ("FAIRLEAD_API_KEY", "ALERT_URL", "a-b", ""):
            assert not re.fullmatch(pattern, name)
