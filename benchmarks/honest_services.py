"""The services of an hour of honest traffic: their manifests, who asks them, and how often."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.honest_texts import PROMISE, Mix, matter, questions
from benchmarks.monitoring.minilm import CACHE, word_table

from fairlead.app.state import StatePaths
from fairlead.cli.shipping import prepare
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.honest_traffic import Asked, Shape, Visitors, bursts, names_intent, steady, wave
from support.installation import BANKING, Installation
from support.load import Reply, text_of

BBQ = Path(os.environ.get("FAIRLEAD_DATA", "data")) / "bbq"
DAYS = 3
FAULTY = "steady"
GUARDED = "daily"
LOCAL = "local"
CLERK = "clerk"
VECTORS = "vectors"
RUN_HERE = {LOCAL: "b", CLERK: "c"}
"""Services of two llama.cpp replicas each, and their model, of the example's."""
PROBED, PAIRED = 40, 100
"""So many questions are probes, and so many are asked in pairs."""

_WATCHED = """
capture: {{share: 100%, retention_hours: 2, per_minute: 6000}}
slos: {{availability: 99.5%, latency_p95_ms: 5000, ttft_p95_ms: 5000, itl_p95_ms: 1000}}
limits: {{queue: 1000, queue_timeout_seconds: 60, request_timeout_seconds: 100}}
monitoring:
  monitors: {{learn_requests: {learn}, learn_texts: {texts}}}
"""
_BY_VECTORS = f"""
  embeddings: {{service: {VECTORS}}}
"""
_VECTORS = f"""
service: {VECTORS}
release:
  name: b
  model: models/b.gguf
  engine:
    kind: llama.cpp
    settings: {{context: 1024, slots: 2, threads: 1, batch: 1024, embeddings: true, pooling: mean}}
rollout: {{strategy: immediate}}
"""
_HOSTED = """
service: {service}
release:
  name: hosted
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "You answer questions of a bank's customers."}}
  price: {{input_per_million: 1, output_per_million: 10}}
  guardrails: {guardrails}
rollout: {{strategy: immediate}}
probes: {{suite: probes.csv, columns: {{input: text}}, interval_minutes: 0.5}}
bias:
  attributes:
    name: {{german: [Anna, Jonas, Lena, Paul], turkish: [Elif, Emre, Aylin, Murat]}}
  templates: ["My name is {{name}}. {{question}}"]
  details: {{question: {asked}}}
  every_minutes: 1
  segments: [{{name: partners, keys: [partner]}}]
"""
_SCORES = """
  scores: {{bbq: "{folder}", items: 100, every_minutes: 2, per_run: 30}}
"""
_GUARDRAILS = [
    {"name": "addresses", "on": "prompt", "pii": ["email"]},
    {"name": "refunds", "on": "prompt", "deny": ["refund"]},
    {"name": "cards", "on": "prompt", "action": "block", "pii": ["card"]},
    {"name": "promises", "on": "answer", "deny": [PROMISE[: PROMISE.index(" that ")]]},
]
_RUN_HERE = """
service: {service}
release:
  name: {model}
  model: models/{model}.gguf
  engine: {{kind: llama.cpp, settings: {{context: 1024, slots: 4, threads: 1, batch: 128}}}}
  sampling: {{temperature: 0, max_tokens: 8}}
  price: {{input_per_million: 1, output_per_million: 10}}
replicas: {{champion: 2}}
rollout: {{strategy: immediate}}
bias: {{every_minutes: 1, segments: [{{name: partners, keys: [partner]}}]}}
"""


@dataclass(frozen=True)
class Served:
    """One service and its users.

    Attributes:
        words: The shape in words.
        streamed, json: Shares of streams, and of requests that ask for JSON.
    """

    name: str
    shape: Shape
    words: str
    streamed: float
    json: float = 0.0

    @property
    def is_hosted(self) -> bool:
        return self.name not in RUN_HERE

    @property
    def told(self) -> str:
        """In words."""
        said = f"{self.words}; {self.streamed:.0%} streamed"
        said += f", {self.json:.0%} ask for JSON" if self.json else ""
        said += ", guardrails" if self.name == GUARDED else ""
        return said if self.is_hosted else f"{said}, two replicas"

    def visitors(self, address: tuple[str, int], keys: Sequence[str], seed: int) -> Visitors:
        """Who asks it; the example's models answer single questions."""
        mix = Mix(questions(), seed)
        return Visitors(
            address,
            self.name,
            keys,
            self.shape,
            mix.begins,
            seed,
            streamed=self.streamed,
            json=self.json,
            told=0.5,
            goes_on=mix.goes_on,
            remembers=self.is_hosted,
            is_right=_is_about if self.is_hosted else names_intent,
        )


def _is_about(reply: Reply, asked: Asked) -> bool:
    return matter(asked.intent) in text_of(reply)


def services(seconds: float, rate: float) -> list[Served]:
    """All that are asked; `rate` times as often as usual."""
    day_s = seconds / DAYS
    low, high = 0.5 * rate, 8.0 * rate
    calm, busy = 1.0 * rate, 15.0 * rate
    return [
        Served(
            GUARDED, wave(low, high, day_s), f"waves of {low:g} to {high:g} a second", 0.3, 0.25
        ),
        Served(
            "bursty",
            bursts(calm, busy, 60.0, 15.0, seed=3),
            f"{calm:g} a second, and bursts of {busy:g}",
            0.4,
            0.3,
        ),
        Served("quiet", steady(0.1 * rate), f"{0.1 * rate:g} a second", 0.3, 0.25),
        Served(FAULTY, steady(6.0 * rate), f"{6.0 * rate:g} a second", 0.5, 0.2),
        Served(
            LOCAL,
            wave(2.0 * rate, high, day_s),
            f"waves of {2.0 * rate:g} to {high:g} a second",
            0.5,
        ),
        Served(CLERK, steady(3.0 * rate), f"{3.0 * rate:g} a second", 0.3),
    ]


def lay_table(paths: StatePaths) -> bool:
    """Put the table of word vectors where `fairlead monitor vectors` does, before the start.

    It is taken, or made, from what `make bench-monitoring` leaves below build/; returns whether it
    could be.
    """
    if not ((CACHE / "word-vectors.npz").is_file() or any(CACHE.glob("minilm/*.whl"))):
        return False
    paths.create()
    paths.word_vectors.write_bytes(word_table().as_bytes())
    return True


def ship(installation: Installation, service: str, port: int, learn: int) -> None:
    """Make it serve; providers are at `port`."""
    watched = _WATCHED.format(learn=learn, texts=max(learn, 1_000))
    place = BANKING / "fairlead.yaml"
    if service == VECTORS:
        text = _VECTORS
    elif service in RUN_HERE:
        text = _RUN_HERE.format(service=service, model=RUN_HERE[service]) + watched
        text += _BY_VECTORS if service == LOCAL else ""
    else:
        place = installation.paths.root.parent / "fairlead.yaml"
        text = _hosted(service, port, place.parent) + watched
    spec = prepare(Registry(installation.paths.registry), parse_manifest(text, place))
    ended = installation.finish(installation.ship(spec).id)
    assert ended.outcome == "promoted", ended


def _hosted(service: str, port: int, folder: Path) -> str:
    """Its manifest, with what it is probed by beside it."""
    asked = [one.text for one in questions()]
    probes = asked[:: len(asked) // PROBED][:PROBED]
    (folder / "probes.csv").write_text(
        "text\n" + "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in probes)
    )
    text = _HOSTED.format(
        service=service,
        port=port,
        guardrails=json.dumps(_GUARDRAILS if service == GUARDED else []),
        asked=json.dumps(asked[7 :: len(asked) // PAIRED][:PAIRED]),
    )
    return text + _SCORES.format(folder=BBQ) if BBQ.is_dir() else text
