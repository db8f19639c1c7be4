"""Services to which something happens, and what has to be told of it.

Their models are on `support.recorded_engine`, or the example's on llama.cpp. Each fault has a
service of its own; the first release of each is honest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fairlead.cli.shipping import prepare
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.installation import BANKING, Installation
from support.recorded_engine import Model, Recorded, text_of_question

LEARN = 200
HONEST = "honest"
EDITED = "Be brief."
"""What somebody adds to a prompt."""

USUAL = Model(slower=4.0)
"""Answers after most of a second: a busy machine that halts for a moment adds little to it."""

DISLIKED = ("Elif", "Emre", "Aylin", "Murat")


class Top(NamedTuple):
    """The change that has to be the first cause of an alert.

    Attributes:
        kind: Of the change.
        of: The release of the service that it is about: its `first` one, or the `worse` one.
        is_inferred: Whether that is inferred, since nothing is known to have changed.
    """

    kind: str
    of: str
    is_inferred: bool = False


PROVIDER = Top("provider", "first")
WORSE = Top("release", "worse")
ANSWERS = Top("provider", "first", True)
"""Nobody has seen the provider change; but all else is as it was when this was learnt."""
ASKED = Top("users", "first", True)
"""So are the users."""
CAME = Top("release", "first")
"""Nothing is compared with what was: all that has changed is that the service came."""


@dataclass(frozen=True)
class Fault:
    """What happens to the service of this name, and what has to be told of it.

    Attributes:
        monitor: Has to say so; of promises with the promise: `slo cost`.
        cause: What has to be its first cause.
        model: What there is behind the provider's name at first.
        after: What it becomes, where that is what happens.
        said: In the words of the alert.
        action: What has to be done about it, where that is declared.
        manifest: What its manifest has besides.
        slos, actions: Its promises, and its `monitoring.actions`.
        watched: What its `monitoring` has besides, in lines.
        besides: Monitors that see its consequences, and may say so, too.
    """

    monitor: str
    cause: Top
    model: Model = USUAL
    after: Model | None = None
    said: str = ""
    action: str = ""
    manifest: str = ""
    slos: str = "availability: 99%"
    actions: str = "[]"
    watched: str = ""
    besides: frozenset[str] = frozenset()

    @property
    def may_tell(self) -> frozenset[str]:
        """All monitors that may say anything of the service."""
        return self.besides | {self.monitor}


def once_edited(**how: Any) -> Model:
    """A model that becomes so by what is added to its prompt."""
    return replace(USUAL, instructed=(EDITED, replace(USUAL, **how)))


def act(do: str, monitor: str) -> str:
    return f"[{{do: {do}, monitors: [{monitor}], severities: [page, ticket]}}]"


CAPTURE = "capture: {share: 100%, retention_hours: 1, per_minute: 6000}\n"
PROBES = """
fallbacks: [honest]
probes:
  suite: probes.csv
  columns: {input: text}
  requests: 6
  interval_minutes: 0.04
  reference_rounds: 8
"""
_WATCHED = """
rollout:
  strategy: immediate
  feedback: {name: success, good_at_least: 1}
  settle_seconds: 3
  after: {failures_at_most: 15%}
"""
_PAIRS = f"""
bias:
  attributes:
    name:
      german: [Anna, Jonas, Lena, Paul]
      turkish: [{", ".join(DISLIKED)}]
  templates: ["I am {{name}} and I would like to know the answer to question {{number}}"]
  details:
    number: [{", ".join(f'"{17 * n}"' for n in range(1, 101))}]
  outcomes: [refusal]
  every_minutes: 0.05
  pairs: 10
"""

FAULTS: Mapping[str, Fault] = {
    "failing": Fault(
        "errors", ANSWERS, after=replace(USUAL, failing=0.3),
        # Where JSON was asked for, no answer is no JSON.
        besides=frozenset({"slo availability", "format"}),
    ),
    "slow": Fault("latency", ANSWERS, after=Model(slower=16.0)),
    "broken": Fault(
        "format", PROVIDER, after=replace(USUAL, broken=0.4), action="fallback",
        manifest=PROBES, actions=act("fallback", "format"),
        besides=frozenset({"provider_changed"}),
    ),
    "refusing": Fault(
        "refusals", PROVIDER, after=replace(USUAL, refusing=0.4), action="propose_retraining",
        manifest=PROBES + CAPTURE, actions=act("propose_retraining", "refusals"),
        # A refusal is no JSON, and no answer that was usual.
        besides=frozenset({"provider_changed", "format", "answer_drift"}),
    ),
    "dear": Fault(
        "slo cost", PROVIDER, after=replace(USUAL, longer=4.0), manifest=PROBES,
        slos="availability: 99%, usd_per_request: 0.0002",
        besides=frozenset({"provider_changed", "length"}),
    ),
    "provider": Fault(
        "provider_changed", PROVIDER, after=replace(USUAL, recorded="c"),
        manifest=PROBES + "  on_change: fallback\n",
    ),
    "german": Fault(
        "language", ASKED, said="most in de", manifest=CAPTURE, besides=frozenset({"drift"})
    ),
    "drifted": Fault(
        "drift", ASKED, said="unlike those", action="propose_retraining", manifest=CAPTURE,
        actions=act("propose_retraining", "drift"),
    ),
    "prompt": Fault(
        "champion_over_limit", WORSE, once_edited(recorded="c"), action="roll_back",
        manifest=_WATCHED, actions=act("roll_back", "champion_over_limit"),
        besides=frozenset({"quality"}),
    ),
    "unfair": Fault(
        "bias", WORSE, once_edited(unfair_to=DISLIKED), said="turkish", action="roll_back",
        manifest=_PAIRS, actions=act("roll_back", "bias"),
    ),
}  # fmt: skip

BROKEN_WEIGHTS: Mapping[str, Fault] = {
    "quantised": Fault(
        "champion_over_limit", WORSE, action="roll_back", besides=frozenset({"quality"})
    ),
}
"""What happens to a service whose model is on llama.cpp."""

MANIFEST = """
service: {service}
release:
  name: {name}
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question. {words}"}}
  price: {{input_per_million: 1, output_per_million: 10}}
slos: {{{slos}}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
{more}
monitoring:
  monitors: {{learn_requests: {learn}, learn_texts: 1000, time_tolerance: 100%}}
  actions: {actions}
{watched}
"""
_AT_ONCE = "\nrollout: {strategy: immediate}\n"


def hosted(
    installation: Installation,
    service: str,
    port: int,
    *,
    name: str = "first",
    words: str = "",
    fault: Fault | None = None,
) -> ServiceSpec:
    """A release of a service behind a provider's name.

    Args:
        words: Added to its prompt.
        fault: What happens to it, where that is none of `FAULTS`.
    """
    fault = fault or FAULTS.get(service, Fault("", CAME, manifest=CAPTURE))
    more = fault.manifest + ("" if "rollout:" in fault.manifest else _AT_ONCE)
    text = MANIFEST.format(
        service=service, name=name, port=port, words=words, learn=LEARN, more=more,
        slos=fault.slos, actions=fault.actions, watched=fault.watched,
    )  # fmt: skip
    folder = installation.paths.root.parent
    _write_probes(folder / "probes.csv")
    manifest = parse_manifest(text, folder / "fairlead.yaml")
    return prepare(Registry(installation.paths.registry), manifest)


def _write_probes(path: Path) -> None:
    """Questions that are asked again and again; to half of them release c has another answer."""
    if not path.exists():
        asked = [*Recorded().differing(3), 40, 80, 120]
        path.write_text("text\n" + "".join(f"{text_of_question(n)}\n" for n in asked), "utf-8")


LOCAL = """
service: {service}
release:
  name: {model}
  model: models/{model}.gguf
  engine: {{kind: llama.cpp, settings: {{context: {context}, slots: 4, threads: 1, batch: 128}}}}
  sampling: {{temperature: 0, max_tokens: 8}}
replicas: {{champion: {replicas}}}
balance: least_loaded
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
{more}
"""
CROWDED = """
rollout: {strategy: immediate}
monitoring:
  monitors:
    learn_requests: 200
    requests_per_false_alarm: 1000
    time_tolerance: 30%
    off: [errors, latency, throughput, slow_key, format, refusals, length, quality, cost,
          guardrails]
"""
"""Of several replicas one fails again and again; other monitors are not looked at."""

USUALLY_WATCHED = """
rollout: {strategy: immediate}
monitoring:
  monitors: {learn_requests: 200, time_tolerance: 30%}
"""
"""All monitors are on, and as rarely wrong as they are if nothing is declared."""

QUANTISED = """
rollout:
  strategy: immediate
  feedback: {name: success, good_at_least: 1}
  settle_seconds: 3
  after: {failures_at_most: 50%}
monitoring:
  monitors: {learn_requests: 200, time_tolerance: 100%}
  actions: [{do: roll_back, monitors: [champion_over_limit]}]
"""


def local(
    installation: Installation,
    service: str,
    model: str,
    *,
    context: int,
    replicas: int = 1,
    more: str = CROWDED,
) -> ServiceSpec:
    """A release of the example's model on llama.cpp.

    Args:
        context: Of each service another one, so that it has replicas of its own.
    """
    text = LOCAL.format(service=service, model=model, context=context, replicas=replicas, more=more)
    manifest = parse_manifest(text, BANKING / "fairlead.yaml")
    return prepare(Registry(installation.paths.registry), manifest)


JUDGED = """
service: judged
release:
  name: first
  model: openai+http://127.0.0.1:{port}/v1?model=judged
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question."}}
rollout: {{strategy: immediate}}
capture: {{share: 100%, per_minute: 6000}}
judge:
  model: "openai+http://127.0.0.1:{judge}/v1?model=grader"
  timeout_seconds: 10
  budget: {{per_day: null}}
monitoring:
  judge: {{per_day: null}}
  monitors: {{learn_requests: {learn}, time_tolerance: 100%}}
"""


def judged(installation: Installation, port: int, judge: int) -> ServiceSpec:
    """A release whose live answers a judge model grades."""
    text = JUDGED.format(port=port, judge=judge, learn=LEARN)
    manifest = parse_manifest(text, installation.paths.root.parent / "fairlead.yaml")
    return prepare(Registry(installation.paths.registry), manifest)


# What users say


def english(question: int) -> str:
    """Of one kind, in English."""
    return f"What is the answer to the question that I have, and how do I get it: {question}"


def german(question: int) -> str:
    """The same in German."""
    return f"Wie ist die Antwort auf eine Frage, die ich nicht verstehe, und was ist mit {question}"


class Topics:
    """Questions of customers of a bank, and after `change` those of cooks."""

    def __init__(self, banking: list[str]) -> None:
        self._banking = banking
        self._dice = random.Random(11)
        self._cooks = False

    def change(self) -> None:
        """From now on people ask about something else."""
        self._cooks = True

    def say(self, question: int) -> str:
        """A question, with its number."""
        if not self._cooks:
            return f"{self._dice.choice(self._banking)} {question}"
        ask, dish = self._dice.choice(_COOKING), self._dice.choice(DISHES)
        return f"{ask.format(dish=dish)} {question}"


_COOKING = (
    "How long do I bake {dish} in the oven, and at which temperature",
    "Which spices go well with {dish}, and how much salt does it need",
    "Can I freeze {dish} after cooking, and for how many weeks does it keep",
    "What can I use in place of butter in a recipe for {dish}",
    "Why does my {dish} always stick to the pan and burn at the bottom",
    "Please give me a shopping list for {dish} for four guests",
)
DISHES = (
    "lasagne", "apple pie", "roast chicken", "potato soup", "sourdough bread", "mushroom risotto",
    "pumpkin curry", "lentil stew", "cheese fondue", "pancakes", "baked salmon", "plum dumplings",
)  # fmt: skip
