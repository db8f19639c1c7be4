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
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

from fairlead.domain.errors import ManifestError
from fairlead.manifest.gateway_file.addresses import Listen, parse_listen
from fairlead.manifest.importing.draft import (
    ENV,
    LOCAL,
    Draft,
    DraftRelease,
    DraftService,
    attempts_for,
    azure_url_of,
    base_url_of,
    endpoint_of,
    take_sampling,
)
from fairlead.manifest.importing.providers import AZURE, TENSORZERO
from fairlead.manifest.importing.section import Losses, Section, is_amount
from fairlead.manifest.importing.tensorzero_limits import (
    attempt_time,
    read_rules,
    take_price,
    take_times,
    whole_time,
)
from fairlead.manifest.lines import Path

PORT = 3000
_SHORT = "::"
_NAMES = {"stop_sequences": "stop"}
_EXTRA = "requests are passed on with nothing added but model, prompt and sampling"
_TEMPLATES = "templates with variables are not carried over: clients send whole messages"
_WHY_MODEL = {"skip_relay": "there is no relay"}
_WHY_PROVIDER = {
    "batch_cost": "there are no batches",
    "extra_body": _EXTRA, "extra_headers": _EXTRA, "provider_tools": _EXTRA,
}  # fmt: skip
_WHY_VARIANT = {
    "extra_body": _EXTRA, "extra_headers": _EXTRA,
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
    reader = _Reader(draft, top, templates)
    reader.functions(top.section("functions"))
    reader.services_of_models()
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


class _Model(NamedTuple):
    """A model, and who else serves it when its first provider cannot.

    Attributes:
        path: Where it stands.
        spares: Of each such provider its name, what it serves, and where that stands.
        timeout_s: For an answer in all.
        attempt_s: For the first byte of one provider.
    """

    path: Path
    release: DraftRelease
    spares: tuple[tuple[str, DraftRelease, Path], ...] = ()
    timeout_s: float | None = None
    attempt_s: float | None = None


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
    model: _Model
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


def _longest(times: Sequence[float | None]) -> float | None:
    """The longest of them; None where one of them has no end."""
    given = [time for time in times if time is not None]
    return max(given) if given and len(given) == len(times) else None


class _Reader:
    def __init__(self, draft: Draft, top: Section, templates: dict[str, str]) -> None:
        self._draft = draft
        self._losses = draft.losses
        self._templates = templates
        self._default_keys = _default_keys(top)
        self._models: dict[str, _Model] = {}
        for table in ("models", "embedding_models"):
            models = top.section(table)
            for name in models.keys:
                model = models.section(name, why=_WHY_MODEL)
                found = self._model(model)
                if found is None:
                    self._losses.add(model.path, "has no provider that can be carried over")
                elif name in self._models:
                    self._losses.add(model.path, "is the name of another model too")
                else:
                    self._models[name] = found

    def functions(self, functions: Section) -> None:
        """Each function is a service."""
        for name in functions.keys:
            function = functions.section(name, why=_WHY_FUNCTION)
            self._function(name, function)

    def services_of_models(self) -> None:
        """Each model is a service too, unless a function has its name."""
        for name, model in self._models.items():
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
        service.timeout_s = _longest([v.time_s for v in taking])
        service.attempt_timeout_s = _longest([v.model.attempt_s for v in taking])
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
        known = self._models.get(model) or self._by_short_name(model, (*section.path, "model"))
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

    def _by_short_name(self, model: str, path: Path) -> _Model | None:
        kind, separator, name = model.partition(_SHORT)
        provider = TENSORZERO.get(kind)
        if not separator or provider is None or not provider.base_url or _SHORT in name:
            self._losses.add(path, "names no model that was carried over")
            return None
        key = self._default_keys.get(kind, provider.key) or None
        endpoint = endpoint_of(provider.base_url, key, None, path, self._losses)
        return _Model(path, DraftRelease(kind, name, endpoints=[endpoint]))

    def _model(self, model: Section) -> _Model | None:
        routing = model.take("routing")
        providers = model.section("providers")
        release: DraftRelease | None = None
        spares: list[tuple[str, DraftRelease, Path]] = []
        times: list[float | None] = []
        for name in routing if isinstance(routing, list) else []:
            if not isinstance(name, str) or name not in providers:
                continue
            section = providers.section(name, why=_WHY_PROVIDER)
            attempt_s = attempt_time(take_times(section), section)
            served = self._provider(section)
            if served is None:
                continue
            if release is None:
                release = served
                times.append(attempt_s)
            elif (release.kind, release.model) == (served.kind, served.model):
                release.endpoints += [e for e in served.endpoints if e not in release.endpoints]
                self._losses.add(section.path, "is used beside the first, not only after it")
                times.append(attempt_s)
            else:
                spares.append((name, served, section.path))
        providers.end("is not in `routing`")
        timeout_s = whole_time(take_times(model), model)
        model.end()
        if release is None:
            return None
        return _Model(model.path, release, tuple(spares), timeout_s, _longest(times))

    def _provider(self, section: Section) -> DraftRelease | None:
        kind = section.text("type")
        provider = TENSORZERO.get(kind)
        if provider is None:
            section.lose_all(f"is not carried over: {kind} is not known to speak the OpenAI API")
            return None
        if section.peek("api_type") == "responses":
            section.lose_all("is not carried over: it is asked by the responses API")
            return None
        section.take("api_type")
        name = section.text("deployment_id" if kind == AZURE else "model_name")
        place = "endpoint" if kind == AZURE else "api_base"
        path = (*section.path, place)
        text = section.text(place)
        if _SHORT in text:
            self._losses.add(path, "is not an address: write it itself")
            text = ""
        elif text and kind == AZURE:
            text = azure_url_of(text, path, self._losses)
        elif text:
            text = base_url_of(text, path, self._losses)
        else:
            text = provider.base_url
        key = self._key(section, kind)
        price = take_price(section)
        section.end()
        if not text:
            self._losses.add(section.path, "is left out, since its address is not known")
            return None
        endpoint = endpoint_of(text, key, None, section.path, self._losses)
        return DraftRelease(kind, name, endpoints=[endpoint], price=price)

    def _key(self, section: Section, kind: str) -> str | None:
        if "api_key_location" not in section:
            return self._default_keys.get(kind, TENSORZERO[kind].key) or None
        path = (*section.path, "api_key_location")
        return _location(section.take("api_key_location"), path, self._draft)


def _default_keys(top: Section) -> dict[str, str]:
    """`provider_types.KIND.defaults.api_key_location`."""
    found: dict[str, str] = {}
    kinds = top.section("provider_types")
    for kind in kinds.keys:
        section = kinds.section(kind)
        defaults = section.section("defaults")
        location = defaults.take("api_key_location")
        if isinstance(location, str) and location.startswith("env::"):
            found[kind] = location.removeprefix("env::")
        elif location is not None:
            defaults.losses.add((*defaults.path, "api_key_location"), "names no variable")
        defaults.end()
        section.end()
    return found


def _location(location: Any, path: Path, draft: Draft) -> str | None:
    if isinstance(location, dict):
        if "fallback" in location:
            draft.losses.add((*path, "fallback"), "a provider has one key")
        location = location.get("default")
    if not isinstance(location, str):
        draft.losses.add(path, "names no place for a key")
        return None
    how, separator, name = location.partition(_SHORT)
    if how == "env" and ENV.fullmatch(name):
        return name
    if location == "none":
        return None
    if separator:
        draft.losses.add(path, f"{how}:: is not known here: name a variable by api_key_env")
        return None
    return draft.variable_for(location, path, str(path[1]))


def _list_tables(top: Section) -> None:
    """What nobody took, one line for each table in a table of tables."""
    for key in top.keys:
        value = top.peek(key)
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            table = top.section(key)
            table.end(_WHY_TOP.get(key, "has no counterpart here"))
    top.end()
