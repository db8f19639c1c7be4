"""A LiteLLM proxy's `config.yaml`.

    model_list        deployments; those of one `model_name` become one service
    router_settings   how one of several deployments is chosen
    litellm_settings, general_settings, credential_list, environment_variables

Deployments of a service that ask for the same model of the same kind of provider become replicas of
one release, the others releases by weight.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from fairlead.domain.errors import ManifestError
from fairlead.manifest.gateway_file.addresses import Listen
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
from fairlead.manifest.importing.limits import Limits, added, price_of, put, put_budget
from fairlead.manifest.importing.litellm_settings import (
    FROM_ENV,
    WHY_GENERAL,
    WHY_LITELLM,
    WHY_ROUTER,
    enforces_limits,
    read_settings,
)
from fairlead.manifest.importing.providers import AZURE, LITELLM
from fairlead.manifest.importing.section import Losses, Section, is_amount, is_placeholder
from fairlead.manifest.lines import Located, Path

PORT = 4000
_PRICES = {
    "input_cost_per_token": "input_per_million",
    "output_cost_per_token": "output_per_million",
}
_OPENAI_MODELS = re.compile(r"(gpt-|o[1-9]|chatgpt-|text-embedding-|ft:|davinci|babbage)")
_RATES = ("weight", "rpm", "tpm")
_LIMITS = {"rpm": "requests_per_minute", "tpm": "tokens_per_minute"}
_HEADERS = "headers of one's own are not sent to providers"
_WHY_PARAMS = {
    "extra_headers": _HEADERS, "headers": _HEADERS, "organization": _HEADERS,
    "stream_timeout": WHY_ROUTER["stream_timeout"],
    "api_version": "the v1 API of Azure has no versions",
}  # fmt: skip


def read_litellm(located: Located, losses: Losses, reserved: frozenset[str]) -> Draft:
    """Raises ManifestError when it is no such file; `reserved` as in `Draft`."""
    top = Section(_merged(located.data), (), losses)
    deployments = top.take("model_list")
    if not isinstance(deployments, list):
        raise ManifestError("there is no model_list: is it a LiteLLM config.yaml?")
    draft = Draft(losses, Listen(LOCAL, PORT), reserved)
    credentials = _credentials(top)
    places: _Places = {}
    tiers = _tiers(deployments)
    for number, deployment in enumerate(deployments):
        section = Section(deployment, ("model_list", number), losses)
        _Deployment(draft, section, credentials, places, tiers).read()
    router = top.section("router_settings", why=WHY_ROUTER)
    is_enforced = enforces_limits(router)
    for service in draft.services.values():
        _weigh(service)
        _time(service, places[service.name], losses)
        _limit(service, places[service.name], losses, is_enforced=is_enforced)
    _line_up(draft, tiers)
    settings = top.section("litellm_settings", why=WHY_LITELLM)
    general = top.section("general_settings", why=WHY_GENERAL)
    read_settings(draft, router, settings, general)
    variables = top.section("environment_variables")
    variables.end("is not copied: set it where the gateway is started, if it is still needed")
    top.end()
    return draft


class _Place(NamedTuple):
    """What one deployment says of itself beside where it is."""

    path: Path
    timeout_s: float | None
    limits: Limits


_Places = dict[str, list[_Place]]
"""The deployments of each service."""
_Tiers = dict[str, list[float]]
"""The orders that the deployments of each model name have, the first to be asked first."""


def _tiers(deployments: list[Any]) -> _Tiers:
    found: dict[str, set[float]] = {}
    for deployment in deployments:
        if isinstance(deployment, dict) and isinstance(deployment.get("model_name"), str):
            params = deployment.get("litellm_params")
            order = params.get("order") if isinstance(params, dict) else None
            found.setdefault(deployment["model_name"], set()).add(_order(order))
    return {name: sorted(orders) for name, orders in found.items()}


def _order(order: object) -> float:
    """One without an order comes last, as LiteLLM has it."""
    return float(order) if isinstance(order, (int, float)) and is_amount(order) else math.inf


def _tier_name(name: str, tier: int) -> str:
    return name if tier == 0 else f"{name}:{tier + 1}"


def _line_up(draft: Draft, tiers: _Tiers) -> None:
    """The deployments of a later order answer when those of an earlier one cannot."""
    for name, orders in tiers.items():
        there = [_tier_name(name, tier) for tier in range(len(orders))]
        there = [each for each in there if each in draft.services]
        for each in there[1:]:
            draft.fall_back(draft.services[there[0]], each, ())


class _Deployment:
    """One item of the model list."""

    def __init__(
        self,
        draft: Draft,
        section: Section,
        credentials: dict[str, Any],
        places: _Places,
        tiers: _Tiers,
    ) -> None:
        self._places = places
        self._tiers = tiers
        self._draft = draft
        self._losses = draft.losses
        self._section = section
        self._credentials = credentials

    def read(self) -> None:
        """Make it a replica of a release of a service, or list why not."""
        name = self._section.text("model_name")
        params = self._section.section("litellm_params", why=_WHY_PARAMS)
        if "litellm_credential_name" in params:
            params = self._with_credential(params)
        model = params.text("model")
        kind, model = _kind_of(model, params.take("custom_llm_provider"))
        why = self._why_not(name, kind, model)
        if why:
            self._lose(why)
            return
        base_url = self._base_url(kind, params)
        if not base_url:
            self._lose("is left out, since its address is not known")
            return
        tier = self._tiers[name].index(_order(params.peek("order")))
        service = self._draft.service(_tier_name(name, tier), (*self._section.path, "model_name"))
        if service is None:
            self._lose("is left out with its name")
            return
        if params.take("order") is not None and tier:
            why = f"becomes part of the service {service.name}, a fallback of {name}"
            self._losses.add((*params.path, "order"), why)
        key = self._key(params, kind, name)
        slots = params.number("max_parallel_requests")
        endpoint = endpoint_of(base_url, key, slots, params.path, self._losses)
        release = DraftRelease(kind, model, take_sampling(params))
        release.rates = self._rates(params)
        release.endpoints.append(endpoint)
        limits = self._limits(params)
        retries = params.number("num_retries") or params.number("max_retries")
        if retries is not None:
            path = (*params.path, "num_retries")
            service.attempts = max(service.attempts or 1, attempts_for(retries, path, self._losses))
        release.price = self._price(params)
        place = _Place(params.path, params.number("timeout"), limits)
        self._places.setdefault(service.name, []).append(place)
        self._join(service, release)
        params.end()
        self._section.end()

    def _limits(self, params: Section) -> Limits:
        limits: Limits = {}
        for theirs, ours in _LIMITS.items():
            for section in (params, self._section):
                if theirs in section:
                    path = (*section.path, theirs)
                    put(limits, ours, section.take(theirs), path, self._losses)
        duration = params.take("budget_duration")
        if "max_budget" in params:
            path = (*params.path, "max_budget")
            put_budget(limits, params.take("max_budget"), duration, path, self._losses)
        return limits

    def _price(self, params: Section) -> dict[str, Any]:
        info = self._section.section("model_info", why={})
        rates: dict[str, object] = {}
        for theirs, ours in _PRICES.items():
            for section in (params, info):
                value = section.take(theirs)
                if value is not None and ours not in rates:
                    rates[ours] = value * 1e6 if isinstance(value, (int, float)) else value
        info.end("properties of models are not kept here")
        return price_of(rates, params.path, self._losses)

    def _join(self, service: DraftService, release: DraftRelease) -> None:
        other = _joined(service, release)
        if other is release or not release.price:
            return
        if other.price and other.price != release.price:
            self._losses.add(self._section.path, "has the price of the others of its release")
        other.price = other.price or release.price

    def _with_credential(self, params: Section) -> Section:
        name = params.take("litellm_credential_name")
        values = self._credentials.get(name) if isinstance(name, str) else None
        if values is None:
            path = (*params.path, "litellm_credential_name")
            self._losses.add(path, "names a credential that is not in credential_list")
            return params
        own = {key: params.take(key) for key in params.keys}
        return Section({**values, **own}, params.path, self._losses, why=_WHY_PARAMS)

    def _why_not(self, name: str, kind: str, model: str) -> str:
        if not name or not model:
            return "needs model_name and litellm_params.model"
        if "*" in name or "*" in model:
            return "is a wildcard: each service has to be named"
        if kind not in LITELLM:
            named = kind or "what serves it"
            return f"is not carried over: {named} is not known to speak the OpenAI API"
        return ""

    def _lose(self, why: str) -> None:
        self._section.lose_all(why)

    def _base_url(self, kind: str, params: Section) -> str:
        key = "api_base" if "api_base" in params else "base_url"
        path = (*params.path, key)
        text = params.text(key)
        if text.startswith(FROM_ENV):
            self._losses.add(path, "is read from the environment: write the address itself")
            return ""
        provider = LITELLM[kind]
        if not text:
            if not provider.base_url:
                self._losses.add(params.path, "has no api_base, which this provider needs")
            return provider.base_url
        if kind == AZURE:
            return azure_url_of(text, path, self._losses)
        return base_url_of(text, path, self._losses, adds=provider.path)

    def _key(self, params: Section, kind: str, service: str) -> str | None:
        path = (*params.path, "api_key")
        if "api_key" not in params:
            return LITELLM[kind].key or None
        value = params.text("api_key")
        if value.startswith(FROM_ENV):
            name = value.removeprefix(FROM_ENV)
            if ENV.fullmatch(name):
                return name
            self._losses.add(path, "names no environment variable")
            return None
        if is_placeholder(value):
            return None
        return self._draft.variable_for(value, path, service)

    def _rates(self, params: Section) -> dict[str, float]:
        found = {
            name: params.peek(name) if name in params else self._section.peek(name)
            for name in _RATES
        }
        params.take("weight")
        return {n: float(v) for n, v in found.items() if is_amount(v) and v > 0}


def _kind_of(model: str, provider: object) -> tuple[str, str]:
    if isinstance(provider, str) and provider:
        return provider, model.removeprefix(f"{provider}/")
    kind, slash, rest = model.partition("/")
    if slash:
        return kind, rest
    return ("openai" if _OPENAI_MODELS.match(model) else ""), model


def _joined(service: DraftService, release: DraftRelease) -> DraftRelease:
    """The same model of the same kind of provider is the same release, in another place."""
    for other in service.releases:
        mine = (other.kind, other.model, other.sampling)
        if mine == (release.kind, release.model, release.sampling):
            other.endpoints += [e for e in release.endpoints if e not in other.endpoints]
            other.weight += release.weight
            for name, rate in release.rates.items():
                other.rates[name] = other.rates.get(name, 0.0) + rate
            return other
    service.releases.append(release)
    return release


def _time(service: DraftService, places: list[_Place], losses: Losses) -> None:
    """The longest of the deployments' times is the service's."""
    given = [place.timeout_s for place in places if place.timeout_s]
    if not given:
        return
    service.timeout_s = max(given)
    for place in places:
        if place.timeout_s and len(set(given)) + len(places) - len(given) > 1:
            why = f"the service as a whole has {service.timeout_s:g} seconds"
            losses.add((*place.path, "timeout"), why)


def _limit(
    service: DraftService, places: list[_Place], losses: Losses, *, is_enforced: bool
) -> None:
    """What the deployments may be asked for together is the service's limit."""
    service.limits = added([place.limits for place in places])
    theirs = {ours: name for name, ours in _LIMITS.items()}
    for place in places:
        for ours in place.limits:
            path = (*place.path, theirs.get(ours, "max_budget"))
            if ours not in service.limits:
                losses.add(path, "is not enforced: another deployment of its name has no limit")
            elif len(places) > 1:
                losses.add(path, f"counts for the service as a whole: {service.limits[ours]:g}")
            elif not is_enforced and ours in theirs:
                losses.add(path, "is enforced here; LiteLLM only chooses by it")
            if ours.startswith("usd") and not all(r.price for r in service.releases):
                losses.add(path, "counts by the `price` of a release, which has to be given here")


def _weigh(service: DraftService) -> None:
    """As LiteLLM's simple shuffle does: by the first of these that any of them has."""
    for name in _RATES:
        if any(name in release.rates for release in service.releases):
            for release in service.releases:
                release.weight = release.rates.get(name, 0.0)
            return


def _credentials(top: Section) -> dict[str, Any]:
    found: dict[str, Any] = {}
    items = top.take("credential_list")
    for number, item in enumerate(items if isinstance(items, list) else []):
        section = Section(item, ("credential_list", number), top.losses)
        name, values = section.text("credential_name"), section.take("credential_values")
        section.take("credential_info")
        if name and isinstance(values, dict):
            found[name] = values
        section.end()
    return found


def _merged(data: Any) -> Any:
    """The data with `<<` as people mean it: what is merged in, then what is there itself."""
    if isinstance(data, list):
        return [_merged(item) for item in data]
    if not isinstance(data, dict):
        return data
    own = {key: _merged(value) for key, value in data.items() if key != "<<"}
    bases = data.get("<<", [])
    merged: dict[str, Any] = {}
    for base in reversed(bases if isinstance(bases, list) else [bases]):
        if isinstance(base, dict):
            merged.update(_merged(base))
    return {**merged, **own}
