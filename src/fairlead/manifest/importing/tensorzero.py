"""A `tensorzero.toml`.

    [models.M]         providers in order; the first that can be used serves the service M, the
                       others are services of their own, M:PROVIDER, and its fallbacks
    [functions.F]      its variants become releases of the service F, by weight; those that are
                       fallbacks only, services F:VARIANT
    [gateway]          where it listens
    [rate_limiting]    what may be used

Functions and models share the names of services here; where one name is both, the function has it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

from fairlead.domain.errors import ManifestError
from fairlead.manifest.gateway_file.addresses import Listen, parse_listen
from fairlead.manifest.importing.draft import (
    LOCAL,
    Draft,
    DraftRelease,
    DraftService,
    attempts_for,
    take_sampling,
)
from fairlead.manifest.importing.section import Losses, Section, is_amount
from fairlead.manifest.importing.tensorzero_limits import read_rules, take_times, whole_time
from fairlead.manifest.importing.tensorzero_models import EXTRA, Model, Models, longest
from fairlead.manifest.lines import Path

PORT = 3000
_NAMES = {"stop_sequences": "stop"}
_TEMPLATES = "templates with variables are not carried over: clients send whole messages"
_WHY_VARIANT = {
    "extra_body": EXTRA, "extra_headers": EXTRA,
    "user_template": _TEMPLATES, "assistant_template": _TEMPLATES, "templates": _TEMPLATES,
    "json_mode": "clients ask for JSON themselves, by `response_format`",
}  # fmt: skip
_WHY_FUNCTION = dict.fromkeys(
    (
        "system_schema", "user_schema", "assistant_schema", "schemas", "output_schema", "tools",
        "tool_choice", "parallel_tool_calls",
    ),
    "clients send messages, tools and schemas themselves",
)  # fmt: skip
_WHY_TOP = {
    "metrics": "feedback takes any name and needs no declaration",
    "tools": "clients send tools themselves",
    "evaluations": "a gateway that runs alone does not evaluate",
    "clickhouse": "records go to `spool`", "postgres": "there is no database",
    "object_storage": "files are passed on and not kept",
}  # fmt: skip


def read_tensorzero(
    data: dict[str, Any], losses: Losses, reserved: frozenset[str], templates: dict[str, str]
) -> Draft:
    """Raises ManifestError when it is no such file; `reserved` as in `Draft`.

    Args:
        templates: The text of each template file that the data names and that is there.
    """
    if not any(name in data for name in ("models", "functions", "embedding_models")):
        raise ManifestError("there are no models and no functions: is it a tensorzero.toml?")
    top = Section(data, (), losses, why=_WHY_TOP)
    draft = Draft(losses, Listen(LOCAL, PORT), reserved)
    timeout_s = _gateway(draft, top.section("gateway"))
    services = _Services(draft, Models(draft, top), templates)
    services.of_functions(top.section("functions"))
    services.of_models()
    for service in draft.services.values():
        service.timeout_s = service.timeout_s or timeout_s
    read_rules(draft, top.section("rate_limiting"))
    _warn_of_prices(draft)
    _list_tables(top)
    return draft


def template_paths(data: dict[str, Any]) -> list[str]:
    """The system templates that variants name."""
    found: list[str] = []
    functions = data.get("functions")
    for function in functions.values() if isinstance(functions, dict) else ():
        variants = function.get("variants") if isinstance(function, dict) else None
        for variant in variants.values() if isinstance(variants, dict) else ():
            path = variant.get("system_template") if isinstance(variant, dict) else None
            if isinstance(path, str):
                found.append(path)
    return found


def _warn_of_prices(draft: Draft) -> None:
    """A budget counts by prices."""
    if not any(name.startswith("usd") for name in draft.limits):
        return
    if any(not release.price for s in draft.services.values() for release in s.releases):
        why = "budgets count by the `price` of each release, which has to be given here"
        draft.losses.add(("rate_limiting",), why)


def _gateway(draft: Draft, gateway: Section) -> float | None:
    """Takes on where to listen and whether keys are asked for; returns the time for a request."""
    losses = draft.losses
    auth = gateway.section("auth")
    draft.wants_key = auth.take("enabled") is True
    if draft.wants_key:
        path = (*auth.path, "enabled")
        losses.add(path, "keys in TensorZero's database are not in this file: a fresh key was made")
    auth.end()
    path = (*gateway.path, "bind_address")
    text = gateway.text("bind_address")
    if text:
        try:
            listen = parse_listen(text)
        except PydanticCustomError:
            losses.add(path, "is not an address that can be listened on")
        else:
            if not draft.wants_key and not listen.is_loopback:
                why = "without keys the gateway listens on this machine alone"
                losses.add(path, f"becomes {LOCAL}:{listen.port}: {why}")
                listen = Listen(LOCAL, listen.port)
            draft.listen = listen
    timeout_ms = gateway.number("global_outbound_http_timeout_ms")
    gateway.end()
    return timeout_ms / 1000 if timeout_ms else None


class _Variant(NamedTuple):
    """A variant of a function."""

    path: Path
    release: DraftRelease
    model: Model
    timeout_s: float | None

    @property
    def time_s(self) -> float | None:
        """For an answer in all: its own, else its model's."""
        return self.timeout_s or self.model.timeout_s

    def by(self, served: DraftRelease) -> DraftRelease:
        """The same variant, of another provider of its model."""
        return replace(
            self.release, kind=served.kind, model=served.model, endpoints=served.endpoints,
            price=served.price, weight=1.0,
        )  # fmt: skip


class _Services:
    """Makes a service of each function and of each model."""

    def __init__(self, draft: Draft, models: Models, templates: dict[str, str]) -> None:
        self._draft = draft
        self._losses = draft.losses
        self._models = models
        self._templates = templates

    def of_functions(self, functions: Section) -> None:
        """Each function is a service."""
        for name in functions.keys:
            function = functions.section(name, why=_WHY_FUNCTION)
            self._function(name, function)

    def of_models(self) -> None:
        """Each model is a service too, unless a function has its name."""
        for name, model in self._models.declared.items():
            if name in self._draft.services:
                self._losses.add(model.path, "is no service of its own: a function has its name")
                continue
            service = self._draft.service(name, model.path)
            if service is not None:
                service.releases.append(model.release)
                service.timeout_s, service.attempt_timeout_s = model.timeout_s, model.attempt_s
                for spare, release, path in model.spares:
                    self._draft.stand_in(service, f"{name}:{spare}", release, path)

    def _function(self, name: str, function: Section) -> None:
        kind = function.take("type")
        if kind == "json":
            path = (*function.path, "type")
            self._losses.add(path, "answers are not checked against a schema")
        function.take("description")
        weights, order = self._experiment(function.section("experimentation"))
        variants = function.section("variants")
        made: list[_Variant] = []
        attempts: list[int] = []
        sections = {
            variant: variants.section(variant, why=_WHY_VARIANT) for variant in variants.keys
        }
        has_weights = any("weight" in section for section in sections.values())
        for variant, section in sections.items():
            own = section.number("weight")
            weight = weights.get(variant, 0.0) if weights else own
            if weight is None:
                weight = 0.0 if has_weights else 1.0
            retries = section.section("retries")
            number = retries.number("num_retries")
            if number is not None:
                path = (*retries.path, "num_retries")
                attempts.append(attempts_for(number, path, self._losses))
            retries.end("the gateway waits by a rule of its own before it tries again")
            found = self._variant(variant, section, weight)
            if found is not None:
                made.append(found)
        function.end()
        taking = [variant for variant in made if variant.release.weight > 0.0]
        service = self._draft.service(name, function.path) if taking else None
        if not taking:
            self._losses.add(function.path, "has no variant that can be carried over")
        if service is None:
            return
        service.releases = [variant.release for variant in taking]
        service.attempts = max(attempts, default=None)
        service.timeout_s = longest([v.time_s for v in taking])
        service.attempt_timeout_s = longest([v.model.attempt_s for v in taking])
        for one in taking:
            here = (one.time_s, one.model.attempt_s)
            if here != (service.timeout_s, service.attempt_timeout_s) and any(here):
                self._losses.add(one.path, "has the times of the service as a whole")
        self._stand_ins(service, made, order)

    def _stand_ins(self, service: DraftService, variants: list[_Variant], order: list[str]) -> None:
        """First the other providers of what gets traffic, then the variants that get none."""
        by_weight = sorted(variants, key=lambda variant: -variant.release.weight)
        for variant in [v for v in by_weight if v.release.weight > 0.0]:
            for spare, served, path in variant.model.spares:
                name = f"{service.name}:{variant.release.name}:{spare}"
                self._draft.stand_in(service, name, variant.by(served), path)
        idle = [v for v in variants if v.release.weight == 0.0]
        idle.sort(key=lambda v: order.index(v.release.name) if v.release.name in order else 99)
        for variant in idle:
            variant.release.weight = 1.0
            name = f"{service.name}:{variant.release.name}"
            self._draft.stand_in(service, name, variant.release, variant.path)

    def _experiment(self, section: Section) -> tuple[dict[str, float], list[str]]:
        """The weights of an experiment, if there is one that says any, and the fallbacks."""
        if section.peek("type") == "static_weights":
            section.take("type")
            candidates = section.take("candidate_variants")
            spare = section.take("fallback_variants")
            order = [str(name) for name in spare] if isinstance(spare, list) else []
            section.end()
            if isinstance(candidates, dict):
                return {n: float(w) for n, w in candidates.items() if is_amount(w)}, order
            if isinstance(candidates, list):
                return {str(name): 1.0 for name in candidates}, order
            return {}, order
        section.end("units are split by the weights of the variants")
        return {}, []

    def _variant(self, name: str, section: Section, weight: float) -> _Variant | None:
        kind = section.take("type")
        model = section.text("model")
        if kind != "chat_completion":
            section.lose_all(f"is not carried over: its type is {kind}")
            return None
        known = self._models.named(model, (*section.path, "model"))
        if known is None:
            section.lose_all("is left out with its model")
            return None
        served = known.release
        release = DraftRelease(served.kind, served.model, endpoints=served.endpoints, name=name)
        release.weight, release.price = weight, served.price
        release.sampling = take_sampling(section, _NAMES)
        path = section.text("system_template")
        if path:
            text = self._templates.get(path)
            if text is None:
                self._losses.add((*section.path, "system_template"), "cannot be read")
            elif re.search(r"\{[{%#]", text):
                self._losses.add((*section.path, "system_template"), _TEMPLATES)
            else:
                release.system = text.strip()
        timeout_s = whole_time(take_times(section), section)
        section.end()
        return _Variant(section.path, release, known, timeout_s)


def _list_tables(top: Section) -> None:
    """What nobody took, one line for each table in a table of tables."""
    for key in top.keys:
        value = top.peek(key)
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            table = top.section(key)
            table.end(_WHY_TOP.get(key, "has no counterpart here"))
    top.end()
