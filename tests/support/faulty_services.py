"""Services to which something happens, and what has to be told of it.

Their models are on `support.recorded_engine`, or the example's on llama.cpp. Each fault has a
service of its own; the first release of each is honest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.cli.shipping import prepare
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.installation import BANKING, Installation
from support.recorded_engine import Model

LEARN = 200
HONEST = "honest"
EDITED = "Be brief."
"""What somebody adds to a prompt."""

DISLIKED = ("Elif", "Emre", "Aylin", "Murat")


@dataclass(frozen=True)
class Fault:
    """What happens to the service of this name, and what has to be told of it.

    Attributes:
        monitors: One of these has to say so first.
        after: What the model behind the provider's name becomes, where that is what happens.
        cause: In the words of the nearest change, where there was one that could be known.
        action: What has to be done about it, where that is declared.
        manifest: What its manifest has besides.
        besides: Monitors that may say so, too.
    """

    monitors: frozenset[str]
    after: Model | None = None
    cause: str = ""
    action: str = ""
    manifest: str = ""
    besides: frozenset[str] = frozenset()


def _act(do: str, *monitors: str, severities: str = "page, ticket") -> str:
    """A manifest's `monitoring.actions`; to be indented there."""
    named = ", ".join(monitors)
    return f"  actions: [{{do: {do}, monitors: [{named}], severities: [{severities}]}}]"


_WATCHED = """
rollout:
  strategy: immediate
  feedback: {name: success, good_at_least: 1}
  settle_seconds: 5
  after: {failures_at_most: 15%}
"""
_PROBED = """
fallbacks: [honest]
probes:
  suite: probes.csv
  columns: {input: text}
  requests: 10
  interval_minutes: 0.02
  reference_rounds: 16
  on_change: fallback
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
  every_minutes: 0.02
  pairs: 400
"""

FAULTS: Mapping[str, Fault] = {
    "failing": Fault(frozenset({"errors", "slo"}), Model(failing=0.3)),
    "slow": Fault(frozenset({"latency"}), Model(slower=3.0)),
    "broken": Fault(
        frozenset({"format"}), Model(broken=0.4), action="fallback",
        manifest="fallbacks: [honest]\n" + _act("fallback", "format"),
    ),
    "refusing": Fault(
        frozenset({"refusals"}), Model(refusing=0.4), action="propose_retraining",
        manifest=_act("propose_retraining", "refusals"),
    ),
    "dear": Fault(frozenset({"length", "cost"}), Model(longer=4.0)),
    "provider": Fault(
        frozenset({"provider_changed"}), Model(recorded="c"), cause="provider", manifest=_PROBED,
    ),
    "german": Fault(frozenset({"language"}), besides=frozenset({"drift"})),
    "drifted": Fault(
        frozenset({"drift"}), action="propose_retraining",
        manifest=_act("propose_retraining", "drift"),
    ),
    "prompt": Fault(
        frozenset({"champion_over_limit"}), cause="edited", action="roll_back",
        manifest=_WATCHED + _act("roll_back", "champion_over_limit"),
    ),
    "unfair": Fault(
        frozenset({"bias"}), cause="edited", action="roll_back",
        manifest=_PAIRS + _act("roll_back", "bias"),
    ),
}  # fmt: skip

EXPLAINED = frozenset(
    {"slo", "quality", "format", "latency", "throughput", "length", "cost", "answer_drift"}
)
"""Consequences: an answer that fails, refuses or is broken is no good answer either."""

MANIFEST = """
service: {service}
release:
  name: {name}
  model: openai+http://127.0.0.1:{port}/v1?model={service}
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question. {words}"}}
  price: {{input_per_million: 1, output_per_million: 10}}
capture: {{share: 100%, retention_hours: 1, per_minute: 6000}}
slos: {{availability: 99%}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
{more}
monitoring:
  monitors: {{learn_requests: {learn}, learn_texts: 1000}}
{actions}
"""


def hosted(
    installation: Installation, service: str, port: int, *, name: str = "first", words: str = ""
) -> ServiceSpec:
    """A release of a service behind a provider's name."""
    given = FAULTS[service].manifest if service in FAULTS else ""
    more, _, actions = given.partition("  actions: ")
    if "rollout:" not in more:
        more += "\nrollout: {strategy: immediate}"
    text = MANIFEST.format(
        service=service, name=name, port=port, words=words, learn=LEARN, more=more,
        actions=f"  actions: {actions}" if actions else "",
    )  # fmt: skip
    folder = installation.paths.root.parent
    cases = "".join(f"Question {31 * number}\n" for number in range(1, 41))
    (folder / "probes.csv").write_text(f"text\n{cases}", encoding="utf-8")
    manifest = parse_manifest(text, folder / "fairlead.yaml")
    return prepare(Registry(installation.paths.registry), manifest)


LOCAL = """
service: {service}
release:
  name: {name}
  model: models/{model}.gguf
  engine: {{kind: llama.cpp, settings: {{context: {context}, slots: 4, threads: 1, batch: 128}}}}
  sampling: {{temperature: 0, max_tokens: 8}}
replicas: {{champion: {replicas}}}
balance: least_loaded
rollout:
  strategy: immediate
  feedback: {{name: success, good_at_least: 1}}
  settle_seconds: 5
  after: {{failures_at_most: 50%}}
limits: {{queue_timeout_seconds: 60, request_timeout_seconds: 100}}
monitoring:
  monitors: {{learn_requests: {learn}, requests_per_false_alarm: {calm}}}
  actions: [{{do: roll_back, monitors: [champion_over_limit]}}]
"""


def local(
    installation: Installation,
    service: str,
    model: str,
    *,
    replicas: int = 1,
    calm: int = 1_000_000,
    context: int = 1024,
) -> ServiceSpec:
    """A release of the example's model on llama.cpp.

    Args:
        context: Of each service another one, so that it has replicas of its own.
    """
    text = LOCAL.format(
        service=service, name=model, model=model, replicas=replicas, context=context, learn=LEARN,
        calm=calm,
    )  # fmt: skip
    manifest = parse_manifest(text, BANKING / "fairlead.yaml")
    return prepare(Registry(installation.paths.registry), manifest)


JUDGED = """
service: judged
release:
  name: {name}
  model: openai+http://127.0.0.1:{port}/v1?model=judged
  engine: {{settings: {{slots: 1024}}}}
  prompt: {{system: "Name the intent of the question. {name}"}}
rollout:
  steps: [{{share: 50%, requests: 100000, seconds: 0}}]
  deadline_minutes: 60
capture: {{share: 100%, per_minute: 6000}}
judge: {{model: "openai+http://127.0.0.1:{judge}/v1?model=grader", concurrency: 4}}
"""


def judged(installation: Installation, name: str, port: int, judge: int) -> ServiceSpec:
    """A release that a judge model grades; its rollout goes on for as long as the test."""
    text = JUDGED.format(name=name, port=port, judge=judge)
    manifest = parse_manifest(text, Path("fairlead.yaml").absolute())
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
        ask, dish = self._dice.choice(_COOKING), self._dice.choice(_DISHES)
        return f"{ask.format(dish=dish)} {question}"


_COOKING = (
    "How long do I bake {dish} in the oven, and at which temperature",
    "Which spices go well with {dish}, and how much salt does it need",
    "Can I freeze {dish} after cooking, and for how many weeks does it keep",
    "What can I use in place of butter in a recipe for {dish}",
    "Why does my {dish} always stick to the pan and burn at the bottom",
    "Please give me a shopping list for {dish} for four guests",
)
_DISHES = (
    "lasagne", "apple pie", "roast chicken", "potato soup", "sourdough bread", "mushroom risotto",
    "pumpkin curry", "lentil stew", "cheese fondue", "pancakes", "baked salmon", "plum dumplings",
)  # fmt: skip
