"""The example in docs/gateway.md is a gateway file that loads."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import yaml

from fairlead.app.standalone.describing import describe_services
from fairlead.app.standalone.routes import unpriced
from fairlead.app.standalone.supervisor import _FIXED
from fairlead.manifest.gateway_file import gateway_file_schema, parse_gateway_file

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"


def test_the_example_is_a_gateway_file() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = parse_gateway_file(example, Path("gateway.yaml"))
    assert describe_services(file) == [
        "service assistant: llama 90 % (10.0.0.5:8000 and 1 more), hosted 10 % (api.openai.com)",
        "service spare: small 100 % (llm.example)",
    ]
    assert file.has_limits
    assert unpriced(file) == []
    document = yaml.load(example, Loader=yaml.BaseLoader)
    assert set(document) <= set(gateway_file_schema()["properties"])
    jsonschema.validate({**yaml.safe_load(example), "spool": "off"}, gateway_file_schema())


def test_every_setting_that_needs_a_stop_and_a_start_is_named() -> None:
    (said,) = re.findall(r"\n?([^.]*) need a stop and a start\.", PAGE.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(\w+)`", said)) == set(_FIXED)
