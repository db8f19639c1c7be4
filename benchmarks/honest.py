"""Honest, varied traffic on a whole installation: no alert may be raised.

    make soak-honest ARGS="--minutes 60"

Starts `fairlead up` with two workers. One service is a llama.cpp model with two replicas, half of
whose answers are streamed, and whose drift goes by vectors of another llama.cpp model; the others
are behind a provider's name. Traffic has the waves of a day (three of them), bursts, a trickle and
a steady stream, of several API keys. All monitors are on: promises, those of requests and texts,
segments, probes, pairs for bias, and scores on BBQ (of FAIRLEAD_DATA). Every alert that fires
at any time is listed, with what each monitor has looked at; one alert, and the check has failed.

`--fault failing` (or slow, broken, refusing, dear, wrong) makes one provider worse half-way, to see
that this check can fail.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.gateway.processes import Bystanders  # noqa: E402
from benchmarks.honest_report import Honest, markdown  # noqa: E402

from fairlead.cli.shipping import prepare  # noqa: E402
from fairlead.control.bias.telling import BiasView  # noqa: E402
from fairlead.control.bias.tracking_views import TrackedView  # noqa: E402
from fairlead.control.watching.watch_views import AlertView, MonitorView  # noqa: E402
from fairlead.domain.errors import Unavailable  # noqa: E402
from fairlead.manifest import parse_manifest  # noqa: E402
from fairlead.registry import Registry  # noqa: E402
from support.honest_traffic import Asked, Shape, Visitors, bursts, steady, wave  # noqa: E402
from support.installation import BANKING, Installation, running  # noqa: E402
from support.live_rollouts import MODELS  # noqa: E402
from support.recorded_engine import (  # noqa: E402
    PER_INTENT,
    Model,
    RecordedEngine,
    recorded_engine,
    right_intent,
)

RESULTS = Path(__file__).parent / "results"
QUESTIONS = 3_000
"""Places in Banking77's test file, of which the recorded answers are."""
LOOK_S = 5.0
BBQ = Path(os.environ.get("FAIRLEAD_DATA", "data")) / "bbq"
DAYS = 3
FAULTY = "steady"
KEYS = ("app", "batch", "partner")

LEARN_MIN = 200
WATCHED = """
capture: {{share: 100%, retention_hours: 2, per_minute: 6000}}
slos: {{availability: 99.5%, latency_p95_ms: 5000, ttft_p95_ms: 5000, itl_p95_ms: 1000}}
limits: {{queue: 1000, queue_timeout_seconds: 60, request_timeout_seconds: 100}}
monitoring:
  monitors: {{learn_requests: {learn}, learn_texts: {texts}}}
"""
BY_VECTORS = """
  embeddings: {service: vectors}
"""
VECTORS = """
service: vectors
release:
  name: b
  model: models/b.gguf
  engine:
    kind: llama.cpp
    settings: {context: 1024, slots: 2, threads: 1, batch: 1024, embeddings: true, pooling: mean}
rollout: {strategy: immediate}
"""
HOSTED = """
service: {service}
release:
  name: hosted
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question."}}
  price: {{input_per_million: 1, output_per_million: 10}}
rollout: {{strategy: immediate}}
probes: {{suite: probes.csv, columns: {{input: text}}, interval_minutes: 0.5}}
bias:
  attributes:
    name: {{german: [Anna, Jonas, Lena, Paul], turkish: [Elif, Emre, Aylin, Murat]}}
  templates: ["I am {{name}} and I would like to know the answer to question {{number}}"]
  details: {{number: [{numbers}]}}
  every_minutes: 1
  segments: [{{name: partners, keys: [partner]}}]
"""
SCORES = """
  scores: {{bbq: "{folder}", items: 100, every_minutes: 2, per_run: 30}}
"""
LOCAL = """
service: local
release:
  name: b
  model: models/b.gguf
  engine: {{kind: llama.cpp, settings: {{context: 1024, slots: 4, threads: 1, batch: 128}}}}
  sampling: {{temperature: 0, max_tokens: 8}}
  price: {{input_per_million: 1, output_per_million: 10}}
replicas: {{champion: 2}}
rollout: {{strategy: immediate}}
bias: {{every_minutes: 1, segments: [{{name: partners, keys: [partner]}}]}}
"""


def main() -> int:
    """Watch honest traffic, print the report and keep it; 1 when anything was told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--learn", type=int, default=1_000, help="requests to learn from")
    parser.add_argument("--rate", type=float, default=1.0, help="times as many requests")
    parser.add_argument("--fault", choices=sorted(set(MODELS) - {"equal"}), help="see above")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    given = parser.parse_args()
    if given.learn < LEARN_MIN:
        parser.error(f"--learn: {given.learn}; monitors learn from {LEARN_MIN} requests at least")
    bystanders = Bystanders(range(os.cpu_count() or 1))
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-honest-") as folder,
        running(Path(folder) / "state") as installation,
    ):
        honest = asyncio.run(_watch(installation, given))
    text = markdown(honest, _command(), bystanders.share)
    sys.stdout.write(text)
    given.results.mkdir(parents=True, exist_ok=True)
    name = "honest-fault.md" if given.fault else "honest.md"
    (given.results / name).write_text(text, encoding="utf-8")
    return 1 if honest.problems() else 0


def _command() -> str:
    """As the report has it: without the folder, which is of this machine."""
    given = sys.argv[1:]
    if "--results" in given:
        at = given.index("--results")
        del given[at : at + 2]
    return f'make soak-honest ARGS="{" ".join(given)}"' if given else "make soak-honest"


def _shapes(seconds: float, rate: float) -> dict[str, tuple[Shape, str]]:
    """By service: how many come, and the same in words."""
    day_s = seconds / DAYS
    low, high = 0.5 * rate, 8.0 * rate
    calm, busy = 1.0 * rate, 15.0 * rate
    return {
        "daily": (wave(low, high, day_s), f"waves of {low:g} to {high:g} a second"),
        "bursty": (
            bursts(calm, busy, 60.0, 15.0, seed=3),
            f"{calm:g} a second, and bursts of {busy:g}",
        ),
        "quiet": (steady(0.1 * rate), f"{0.1 * rate:g} a second"),
        FAULTY: (steady(6.0 * rate), f"{6.0 * rate:g} a second"),
        "local": (wave(2.0 * rate, 8.0 * rate, day_s), "waves, half of it streamed"),
    }


async def _watch(installation: Installation, given: argparse.Namespace) -> Honest:
    seconds = 60.0 * given.minutes
    shapes = _shapes(seconds, given.rate)
    honest = Honest(seconds, {name: words for name, (_, words) in shapes.items()})
    hosted = [name for name in shapes if name != "local"]
    installation.make_key()
    keys = [installation.make_key(name) for name in KEYS]
    async with recorded_engine({name: Model() for name in hosted}) as engine:
        for name in ("vectors", *shapes):
            await asyncio.to_thread(_ship, installation, name, engine.port, given.learn)
        stop = asyncio.Event()
        visitors = [
            Visitors(
                installation.gateway,
                name,
                keys,
                shape,
                LocalQuestions() if name == "local" else _question,
                seed,
                streamed=0.5 if name == "local" else 0.0,
                json=name != "local",
                told=0.5,
            )
            for seed, (name, (shape, _)) in enumerate(shapes.items())
        ]
        coming = [asyncio.create_task(one.run(stop)) for one in visitors]
        try:
            await _until_the_end(installation, honest, engine, given.fault)
        finally:
            stop.set()
            await asyncio.gather(*coming)
    honest.asked = {one.service: sum(one.statuses.values()) for one in visitors}
    honest.failed = {
        one.service: honest.asked[one.service] - one.statuses[200] + one.broken for one in visitors
    }
    honest.held_back = sum(one.held_back for one in visitors)
    return honest


async def _until_the_end(
    installation: Installation, honest: Honest, engine: RecordedEngine, fault: str | None
) -> None:
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < honest.seconds:
        if fault and not honest.fault and at >= honest.seconds / 2:
            await engine.become({FAULTY: MODELS[fault]})
            honest.fault = f"{FAULTY} became {fault} after {at / 60:.1f} minutes"
        await asyncio.to_thread(_look, installation, honest, at)
        await asyncio.sleep(LOOK_S)


def _look(installation: Installation, honest: Honest, at: float) -> None:
    """An alert lasts for minutes: none is missed in between."""
    try:
        firing = installation.control.get(list[AlertView], "alerts", limit=1000)
        honest.monitors = installation.control.get(list[MonitorView], "monitors")
        honest.pairs = installation.control.get(list[BiasView], "bias")
        honest.scores = installation.control.get(list[TrackedView], "bias", "tracked")
    except Unavailable:
        return  # the next look
    for alert in firing:
        first, _ = honest.alerts.get(alert.fingerprint, (at, alert))
        honest.alerts[alert.fingerprint] = (first, alert)


def _ship(installation: Installation, service: str, port: int, learn: int) -> None:
    watched = WATCHED.format(learn=learn, texts=max(learn, 1_000))
    if service == "vectors":
        manifest = parse_manifest(VECTORS, BANKING / "fairlead.yaml")
    elif service == "local":
        text = LOCAL.format() + watched + BY_VECTORS
        manifest = parse_manifest(text, BANKING / "fairlead.yaml")
    else:
        folder = installation.paths.root.parent
        cases = "".join(f"Question {31 * number}\n" for number in range(1, 41))
        (folder / "probes.csv").write_text(f"text\n{cases}", encoding="utf-8")
        numbers = ", ".join(f'"{17 * number}"' for number in range(1, 101))
        text = HOSTED.format(service=service, port=port, numbers=numbers)
        if BBQ.is_dir():
            text += SCORES.format(folder=BBQ)
        manifest = parse_manifest(text + watched, folder / "fairlead.yaml")
    spec = prepare(Registry(installation.paths.registry), manifest)
    ended = installation.finish(installation.ship(spec).id)
    assert ended.outcome == "promoted", ended


def _question(dice: random.Random) -> Asked:
    """One of the recorded ones, asked in one of several ways."""
    place = dice.randrange(QUESTIONS // PER_INTENT * PER_INTENT)
    ways = ("Question", "Please help me with question", "Hello, I have this one:", "What about")
    return Asked(f"{dice.choice(ways)} {place}", right_intent(place))


class LocalQuestions:
    """What customers of the example ask."""

    def __init__(self) -> None:
        with (BANKING / "traffic.csv").open(newline="", encoding="utf-8") as rows:
            self._asked = [Asked(row["text"], row["category"]) for row in csv.DictReader(rows)]

    def __call__(self, dice: random.Random) -> Asked:
        return dice.choice(self._asked)


if __name__ == "__main__":
    sys.exit(main())
