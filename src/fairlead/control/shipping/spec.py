"""What control is asked to ship: a manifest, resolved so that it no longer needs any file."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.capture import Capture, check_capture
from fairlead.domain.errors import InvalidInput
from fairlead.domain.quota import Price, check_price, check_quota
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.judge_model import JudgeModel, check_judge
from fairlead.evaluation.scorers import Scorer
from fairlead.monitoring.declared import Declared, check_declared
from fairlead.probing.bias_model import BiasSpec
from fairlead.probing.bias_sets import check_builtin
from fairlead.probing.model import ProbeRule
from fairlead.rollout.drill import Drill, DrillRule
from fairlead.rollout.freeze import WINDOWS_MAX, Freeze, check_freeze
from fairlead.rollout.plan import Plan
from fairlead.wire.snapshot import Balance, Limits, Pin

GATES_MAX = 50
FALLBACKS_MAX = 8
CASES_MAX = 1_000_000
CONCURRENCY_MAX = 256
NAME_MAX = 128
PINS_MAX = 20
PINNED_MAX = 100
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


WhenBusy = Literal["refuse", "queue", "supersede"]


class GateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gate with its suite, which the registry holds as a blob.

    Attributes:
        suite: Digest of the suite's blob.
        cases: At most so many cases of it, always the same ones; 0 for all.
    """

    rule: GateRule
    scorer: Scorer
    suite: str
    cases: int = 0
    concurrency: int = 8


class ProbeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the champion is probed; its suite is a blob in the registry.

    Attributes:
        scorer: How an answer with an expected one is scored; None to compare answers alone.
    """

    rule: ProbeRule
    scorer: Scorer | None = None


class Slos(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the service promises; None where nothing is promised."""

    availability: float | None = None
    ttft_p95_ms: float | None = None
    latency_p95_ms: float | None = None


class ServiceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a release of a service is gated, rolled out and run.

    The champion's spec is the service's: it changes only by promotion, as a whole.

    Attributes:
        price: What the release's tokens cost. It is no part of the release: the same release can
            become cheaper.
        when_busy: What becomes of this rollout if another one of the service is under way.
        freeze: When no traffic may move to the release.
        pins: Who is always sent to the canary, or to the champion; `keys` are names here.
        probes: How the champion is watched for changes that nobody shipped; None not to.
        capture: What is kept of prompts and answers; None for nothing.
        judge: Which model grades the sampled answers of its rollout, if any.
        drills: When the service is drilled by itself; None for never.
        drill: This is a drill's; control makes it of the champion's.
        monitoring: What is promised, who is told of alerts, and what is done about them.
        bias: How the champion is watched for bias; None not to.
    """

    service: str
    release: str
    name: str
    plan: Plan
    gates: tuple[GateSpec, ...] = ()
    limits: Limits = Limits()
    slos: Slos = Slos()
    fallbacks: tuple[str, ...] = ()
    price: Price | None = None
    balance: Balance = "least_loaded"
    when_busy: WhenBusy = "refuse"
    freeze: tuple[Freeze, ...] = ()
    pins: tuple[Pin, ...] = ()
    probes: ProbeSpec | None = None
    capture: Capture | None = None
    judge: JudgeModel | None = None
    drills: DrillRule | None = None
    drill: Drill | None = None
    monitoring: Declared = Declared()
    bias: BiasSpec | None = None


def check_spec(spec: ServiceSpec) -> None:
    """Refuse what a manifest could not have said; raises InvalidInput with the place.

    The plan checks itself when it is made, and the release and suites must be in the registry.
    """
    if not _SERVICE.fullmatch(spec.service):
        raise InvalidInput(
            f"service: {ascii(spec.service)[:80]} is no name of lower-case letters, digits, '-', "
            "'_' and '.', at most 63 of them"
        )
    if spec.drill is not None:
        raise InvalidInput("drill: a drill is not shipped", hint="begin it by `fairlead drill`")
    _check_digest("release", spec.release)
    if len(spec.name) > NAME_MAX:
        raise InvalidInput(f"name: longer than {NAME_MAX} characters")
    _check_limits(spec.limits)
    if spec.price is not None:
        check_price("price.", spec.price)
    _check_slos(spec.slos)
    _check_fallbacks(spec)
    if len(spec.freeze) > WINDOWS_MAX:
        raise InvalidInput(f"freeze: {len(spec.freeze)} of them; at most {WINDOWS_MAX}")
    for index, window in enumerate(spec.freeze):
        check_freeze(f"freeze[{index}]", window)
    _check_pins(spec.pins)
    _check_probes(spec)
    _check_judge(spec)
    check_declared(spec.monitoring, spec.service)
    _check_bias(spec)
    if len(spec.gates) > GATES_MAX:
        raise InvalidInput(f"gates: {len(spec.gates)} of them; at most {GATES_MAX}")
    names = set()
    for index, gate in enumerate(spec.gates):
        _check_gate(f"gates[{index}]", gate)
        if gate.rule.name in names:
            raise InvalidInput(f"gates[{index}].rule.name: that of an earlier gate")
        names.add(gate.rule.name)
    for suite in spec.plan.suites:
        if suite.gate not in names:
            raise InvalidInput(f"plan.suites: {suite.name}: there is no gate {suite.gate!r}")
        if suite.promotes and not spec.plan.steps:
            raise InvalidInput(
                f"plan.suites: {suite.name}: is needed to promote, and there is no step in which "
                "it would be run"
            )


def _check_probes(spec: ServiceSpec) -> None:
    if spec.probes is None:
        return
    rule = spec.probes.rule
    _check_digest("probes.rule.suite", rule.suite)
    if rule.on_change == "fallback" and not spec.fallbacks:
        raise InvalidInput("probes.rule.on_change: fallback, and the service has no fallbacks")
    if rule.usd_per_day is not None and spec.price is None:
        raise InvalidInput("probes.rule.usd_per_day: needs the release's price")


def _check_bias(spec: ServiceSpec) -> None:
    bias = spec.bias
    if bias is None:
        return
    check_builtin(bias)
    if bias.usd_per_day is not None and spec.price is None:
        raise InvalidInput("bias.usd_per_day: needs the release's price")
    if bias.scores is None:
        return
    if bias.scores.usd_per_day is not None and spec.price is None:
        raise InvalidInput("bias.scores.usd_per_day: needs the release's price")
    for index, each in enumerate(bias.scores.benchmarks):
        if each.suite:
            _check_digest(f"bias.scores.benchmarks[{index}].suite", each.suite)


def prices_of(*specs: ServiceSpec) -> dict[str, Price]:
    """What their releases cost; of the same release, what the last one says."""
    return {spec.release: spec.price for spec in specs if spec.price is not None}


def _check_limits(limits: Limits) -> None:
    check_between("limits.queue", limits.queue, 0, 100_000)
    check_between("limits.queue_timeout_s", limits.queue_timeout_s, 0, 3_600, above=True)
    check_between("limits.request_timeout_s", limits.request_timeout_s, 0, 86_400, above=True)
    check_between("limits.body_bytes_max", limits.body_bytes_max, 1, 1 << 30)
    check_between("limits.attempts", limits.attempts, 1, 10)
    check_quota("limits.quota.", limits.quota)
    if limits.attempt_timeout_s is not None:
        check_between("limits.attempt_timeout_s", limits.attempt_timeout_s, 0, 86_400, above=True)
    if limits.hedge_after_ms is not None:
        check_between("limits.hedge_after_ms", limits.hedge_after_ms, 0, 3_600_000, above=True)


def _check_fallbacks(spec: ServiceSpec) -> None:
    if len(spec.fallbacks) > FALLBACKS_MAX:
        raise InvalidInput(f"fallbacks: {len(spec.fallbacks)} of them; at most {FALLBACKS_MAX}")
    for index, name in enumerate(spec.fallbacks):
        if not _SERVICE.fullmatch(name):
            raise InvalidInput(f"fallbacks[{index}]: {ascii(name)[:80]} is no name of a service")
        if name == spec.service:
            raise InvalidInput(f"fallbacks[{index}]: this service itself")
        if name in spec.fallbacks[:index]:
            raise InvalidInput(f"fallbacks[{index}]: {name} is there twice")


def _check_judge(spec: ServiceSpec) -> None:
    if spec.capture is not None:
        check_capture(spec.capture)
    if spec.judge is None:
        if spec.plan.awaits_judge:
            raise InvalidInput("plan: feedback is sampled, without a judge that gives it")
        return
    check_judge(spec.judge, spec.service)
    if spec.capture is None or not (spec.capture.prompts and spec.capture.answers):
        raise InvalidInput("judge: grades what capture keeps: prompts and answers")


def _check_pins(pins: tuple[Pin, ...]) -> None:
    if len(pins) > PINS_MAX:
        raise InvalidInput(f"pins: {len(pins)} of them; at most {PINS_MAX}")
    for index, pin in enumerate(pins):
        where = f"pins[{index}]"
        if not pin.keys and not pin.sessions:
            raise InvalidInput(f"{where}: pins nobody: give keys or sessions")
        for name, given in (("keys", pin.keys), ("sessions", pin.sessions)):
            if len(given) > PINNED_MAX or any(not 0 < len(text) <= NAME_MAX for text in given):
                raise InvalidInput(
                    f"{where}.{name}: at most {PINNED_MAX}, of 1 to {NAME_MAX} characters each"
                )


def _check_slos(slos: Slos) -> None:
    if slos.availability is not None:
        check_between("slos.availability", slos.availability, 0, 1)
    for name, value in (("ttft_p95_ms", slos.ttft_p95_ms), ("latency_p95_ms", slos.latency_p95_ms)):
        if value is not None and value <= 0:
            raise InvalidInput(f"slos.{name}: {value:g} is not above 0")


def _check_gate(where: str, gate: GateSpec) -> None:
    rule = gate.rule
    if not _LABEL.fullmatch(rule.name):
        raise InvalidInput(
            f"{where}.rule.name: {ascii(rule.name)[:80]} is no name of letters, digits, '-', '_' "
            "and '.', at most 63 of them"
        )
    if rule.minimum is None and rule.margin is None:
        raise InvalidInput(f"{where}.rule: asks for nothing: give minimum or margin")
    if rule.minimum is not None:
        check_between(f"{where}.rule.minimum", rule.minimum, 0, 1)
    if rule.margin is not None and not 0 <= rule.margin < 1:
        raise InvalidInput(f"{where}.rule.margin: {rule.margin:g} is not from 0 to below 1")
    if not 0.5 < rule.confidence < 1:
        raise InvalidInput(f"{where}.rule.confidence: {rule.confidence:g} is not in (0.5, 1)")
    check_between(f"{where}.rule.errors_at_most", rule.errors_at_most, 0, 1)
    _check_digest(f"{where}.suite", gate.suite)
    check_between(f"{where}.cases", gate.cases, 0, CASES_MAX)
    check_between(f"{where}.concurrency", gate.concurrency, 1, CONCURRENCY_MAX)


def _check_digest(where: str, digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            f"{where}: {ascii(digest)[:80]} is not a digest (sha256: and 64 hex digits)"
        )
