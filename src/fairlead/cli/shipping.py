"""From a manifest to a release in the registry and a spec that control can ship."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from fairlead.app.limits import limits_of
from fairlead.app.state import StatePaths
from fairlead.cli.benchmark_files import loaded
from fairlead.cli.fairness import bias_of, with_scores
from fairlead.cli.judging import capture_of, judge_of
from fairlead.cli.planning import drills_of, freeze_of, plan_of
from fairlead.cli.watching import declared_of
from fairlead.control.shipping.spec import GateSpec, ProbeSpec, ServiceSpec, Slos
from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import Engine, Prompt
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.scorers import Scorer, check_scorer
from fairlead.evaluation.suite import Columns, Suite, parse_suite
from fairlead.probing.model import ProbeRule
from fairlead.registry import BuildInput, Registry, ReleaseEntry
from fairlead.rollout.states import State
from fairlead.wire.snapshot import Pin

if TYPE_CHECKING:
    from fairlead.manifest import Manifest
    from fairlead.manifest.gates import Gate
    from fairlead.manifest.probes import Probes

SUITE_MEDIA_TYPE = "application/vnd.fairlead.suite.v1+json"
SUITE_BYTES_MAX = 256 * 1024 * 1024


class InUse(msgspec.Struct, frozen=True):
    """Digests that must stay in the registry."""

    releases: set[str]
    blobs: set[str]


def build_release(registry: Registry, manifest: Manifest) -> ReleaseEntry:
    """Build the manifest's release; the same content gives the same digest anywhere."""
    release = manifest.release
    given = BuildInput(
        model=release.source_text,
        engine=Engine(release.engine.kind, release.settings),
        prompt=Prompt(release.prompt.system, release.prompt.user),
        sampling=release.sampling_defaults,
        name=release.name or "",
        service=manifest.service,
        api_key_env=release.api_key_env,
        api_key_file=release.api_key_file,
        outbound=release.outbound.way,
        guardrails=tuple(guardrail.declared for guardrail in release.guardrails),
    )
    return registry.build(given, now=time.time(), hf_token=os.environ.get("HF_TOKEN"))


def prepare(registry: Registry, manifest: Manifest) -> ServiceSpec:
    """Build the release, store its suites, and return the spec that needs no file any more.

    Suites are read first: a mistake in one leaves the registry as it was.
    """
    suites = [(gate, _suite(gate)) for gate in manifest.gates]
    probed = None if manifest.probes is None else _probed(manifest.probes)
    bias = bias_of(manifest)
    scores = manifest.bias.scores if manifest.bias is not None else None
    benchmarks = [] if scores is None else loaded(scores)
    entry = build_release(registry, manifest)
    if bias is not None:
        bias = with_scores(
            bias, manifest, benchmarks, lambda data: registry.put_blob(data, SUITE_MEDIA_TYPE)
        )
    price = manifest.release.price
    return ServiceSpec(
        service=manifest.service,
        release=entry.digest,
        name=entry.name,
        plan=plan_of(manifest),
        gates=tuple(_gate(registry, gate, suite) for gate, suite in suites),
        limits=limits_of(manifest.limits),
        slos=Slos(
            availability=manifest.slos.availability,
            ttft_p95_ms=manifest.slos.ttft_p95_ms,
            latency_p95_ms=manifest.slos.latency_p95_ms,
        ),
        fallbacks=manifest.fallbacks,
        price=price.price if price else None,
        balance=manifest.balance,
        when_busy=manifest.rollout.when_busy,
        freeze=freeze_of(manifest),
        capture=capture_of(manifest),
        judge=judge_of(manifest),
        drills=drills_of(manifest),
        monitoring=declared_of(manifest),
        bias=bias,
        pins=tuple(Pin(pin.release, pin.keys, pin.sessions) for pin in manifest.rollout.pin),
        probes=_probes(registry, manifest.probes, *probed)
        if manifest.probes is not None and probed is not None
        else None,
    )


def _suite(gate: Gate) -> bytes:
    suite = _read(gate)
    check_scorer(_scorer(gate), suite)
    return suite.to_bytes()


def _read(given: Gate | Probes) -> Suite:
    try:
        with given.suite.open("rb") as file:
            data = file.read(SUITE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{given.suite}: {error.strerror}") from None
    if len(data) > SUITE_BYTES_MAX:
        raise InvalidInput(f"{given.suite}: larger than {SUITE_BYTES_MAX} bytes")
    columns = Columns(**given.columns.model_dump())
    return parse_suite(data, given.suite_format, columns, name=str(given.suite))


def _probed(probes: Probes) -> tuple[Suite, Scorer | None]:
    """What is asked in each round: all that has to be kept of the suite, and how it is scored."""
    suite = Suite(_read(probes).sample(probes.requests))
    if probes.scorer is None:
        return suite, None
    document = probes.scorer.model_dump(by_alias=True, exclude_none=True)
    scorer: Scorer = msgspec.convert(document, Scorer)
    expected = tuple(case for case in suite.cases if case.expected is not None)
    if not expected:
        raise InvalidInput(f"probes.scorer: no case of {probes.suite} has an expected value")
    check_scorer(scorer, Suite(expected))
    return suite, scorer


def _probes(registry: Registry, probes: Probes, suite: Suite, scorer: Scorer | None) -> ProbeSpec:
    rule = ProbeRule(
        suite=registry.put_blob(suite.to_bytes(), SUITE_MEDIA_TYPE),
        cases=len(suite.cases),
        interval_s=probes.interval_minutes * 60,
        reference_rounds=probes.reference_rounds,
        temperature=probes.temperature,
        seed=probes.seed,
        alpha=probes.alpha,
        usd_per_day=probes.usd_per_day,
        on_change=probes.on_change,
        webhooks=probes.webhooks,
        timeout_s=probes.timeout_seconds,
    )
    return ProbeSpec(rule, scorer)


def _scorer(gate: Gate) -> Scorer:
    scorer: Scorer = msgspec.convert(gate.scorer_document, Scorer)
    return scorer


def _gate(registry: Registry, gate: Gate, suite: bytes) -> GateSpec:
    comparison = gate.non_inferiority
    return GateSpec(
        rule=GateRule(
            name=gate.name,
            minimum=gate.minimum,
            margin=comparison.margin if comparison else None,
            confidence=comparison.confidence if comparison else 0.95,
            errors_at_most=gate.errors_at_most,
        ),
        scorer=_scorer(gate),
        suite=registry.put_blob(suite, SUITE_MEDIA_TYPE),
        cases=gate.cases or 0,
        concurrency=gate.concurrency,
    )


def _suites(spec: ServiceSpec) -> set[str]:
    probed = set() if spec.probes is None else {spec.probes.rule.suite}
    scores = None if spec.bias is None else spec.bias.scores
    scored = set() if scores is None else {each.suite for each in scores.benchmarks if each.suite}
    return probed | scored | {gate.suite for gate in spec.gates}


def releases_in_use(paths: StatePaths) -> InUse:
    """What services run on, may go back to, or are moving to; read from the store.

    Raises Damaged, since a collection must not guess what is in use.
    """
    if not paths.database.exists():
        return InUse(set(), set())
    from fairlead.control.bias.scoring_model import KIND as SCORES
    from fairlead.control.bias.scoring_model import Scoring
    from fairlead.control.documents import read_all
    from fairlead.control.shipping.stored import read_rollout, read_spec
    from fairlead.store import open_store

    store = open_store(paths.store_url)
    try:
        services, rollouts = store.services(), store.rollouts(limit=10_000)
        scorings = read_all(store, SCORES, Scoring)
    finally:
        store.close()
    releases: set[str] = set()
    blobs = {scoring.suite for scoring in scorings.values()}
    for row in services:
        releases |= {digest for digest in (row.champion, row.previous) if digest}
        spec = read_spec(row)
        blobs |= _suites(spec)
    for rollout in rollouts:
        if rollout.active or rollout.state == State.QUEUED:
            document = read_rollout(rollout).document
            releases.add(rollout.release)
            releases |= {document.then.spec.release} if document.then else set()
            blobs |= _suites(document.spec)
    return InUse(releases, blobs)


def not_scored(spec: ServiceSpec) -> list[str]:
    """Of which benchmarks there are no items, and why."""
    scores = None if spec.bias is None else spec.bias.scores
    return [] if scores is None else [each.missing for each in scores.benchmarks if each.missing]
