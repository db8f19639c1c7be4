"""A provider is changed silently, with real models on both sides: it is found, and left."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fairlead.cli.shipping import prepare
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.manifest import Manifest
from fairlead.manifest.loading import parse_manifest
from fairlead.registry import Registry
from fairlead.rollout.plan import Plan
from support.installation import BANKING, Installation
from support.load import Connection

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
QUIET = 30
"""Rounds before the change."""

# The provider is this installation's own gateway: another service of it, with a model on llama.cpp.
REMOTE = """
service: assistant
release:
  name: hosted
  model: openai+http://127.0.0.1:{port}/v1?model=banking
  api_key_file: {key_file}
  sampling: {{max_tokens: 8}}
  price: {{input_per_million: 1, output_per_million: 2}}
fallbacks: [spare]
probes:
  suite: suite.csv
  columns: {{input: text, expected: category}}
  scorer: {{kind: json_field, field: intent}}
  requests: 20
  interval_minutes: 0.02
  reference_rounds: 24
  usd_per_day: 5
  on_change: fallback
"""


def at_once(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


def named(spec: ServiceSpec, service: str) -> ServiceSpec:
    """The same release for another service, all traffic at once."""
    return msgspec.structs.replace(spec, service=service, plan=Plan(steps=()))


def probes(installation: Installation) -> ProbesView:
    [view] = installation.control.get(list[ProbesView], "probes")
    return view


async def test_a_provider_that_is_swapped_silently_is_found_and_its_fallback_answers(
    installation: Installation, tmp_path: Path, questions: list[tuple[str, str]]
) -> None:
    for service in ("banking", "spare"):
        shipped = installation.ship(named(installation.spec("a", at_once), service))
        assert installation.finish(shipped.id).outcome == "promoted"
    key_file = tmp_path / "key"
    key_file.write_text(installation.key)
    text = REMOTE.format(port=installation.gateway[1], key_file=key_file)
    manifest = parse_manifest(text, BANKING / "hosted.yaml")
    hosted = installation.ship(prepare(Registry(installation.paths.registry), manifest))
    assert installation.finish(hosted.id).outcome == "promoted"

    installation.wait(lambda: probes(installation).rounds >= QUIET, "the quiet rounds", 120)
    quiet = probes(installation)
    assert (quiet.state, quiet.change) == ("watching", None)
    assert quiet.sent_in_all >= 20 * QUIET
    assert quiet.usd_in_all > 0

    connection = Connection(installation.gateway, installation.key)
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": questions[0][0]}],
        "max_tokens": 8,
    }
    assert (await connection.post("/v1/chat/completions", body)).release == hosted.release

    # Nobody ships anything to `assistant`: behind its provider's name there is another model now.
    swapped = installation.ship(named(installation.spec("b", at_once), "banking"))
    assert installation.finish(swapped.id).outcome == "promoted"
    before = probes(installation).rounds
    installation.wait(lambda: probes(installation).change is not None, "the change", 120)
    found = probes(installation)
    assert found.change is not None
    assert found.change.round - before <= 12, found.change.why
    assert found.change.differences
    assert found.is_diverted

    spare = next(s for s in installation.status().services if s.name == "spare").champion

    async def answered_by() -> str:
        return (await connection.post("/v1/chat/completions", body)).release

    for _ in range(200):
        if await answered_by() == spare:
            break
    assert await answered_by() == spare
    assert next(
        s for s in installation.status().services if s.name == "assistant"
    ).probes == probes(installation)

    accepted = installation.control.post(ProbesView, "services", "assistant", "probes", "accept")
    assert (accepted.change, len(accepted.accepted)) == (None, 1)
    for _ in range(200):
        if await answered_by() == hosted.release:
            break
    assert await answered_by() == hosted.release
    connection.close()
