"""A LiteLLM proxy's `config.yaml`.

    model_list        deployments; those of one `model_name` become one service
    router_settings   how one of several deployments is chosen
    litellm_settings, general_settings, credential_list, environment_variables

Deployments of a service that ask for the same model of the same kind of provider become replicas of
one release, the others releases by weight.
"""

from __future__ import annotations

import re
from typing import Any

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
from fairlead.manifest.importing.providers import AZURE, LITELLM
from fairlead.manifest.importing.section import Losses, Section, is_amount, is_placeholder
from fairlead.manifest.lines import Located, Path

PORT = 4000
_FROM_ENV = "os.environ/"
_OPENAI_MODELS = re.compile(r"(gpt-|o[1-9]|chatgpt-|text-embedding-|ft:|davinci|babbage)")
_FALLBACKS = "there are no fallbacks between services"
_LIMIT = "is not enforced; it is the weight where there is no `weight`"
_RATES = ("weight", "rpm", "tpm")
_HEADERS = "headers of one's own are not sent to providers"
_REDIS = "workers share nothing that would need Redis"
_DATABASE = "keys, teams, budgets and models in LiteLLM's database are not in this file"
_CACHE = "answers are not cached"
_CALLBACKS = "nobody is called back; records go to `spool`, figures to /metrics"
_WHY_PARAMS = {
    "rpm": _LIMIT, "tpm": _LIMIT, "extra_headers": _HEADERS, "headers": _HEADERS,
    "organization": _HEADERS, "max_retries": "retries are a limit of the service: `attempts`",
    "stream_timeout": "streams have the service's `request_timeout_seconds`",
    "order": _FALLBACKS, "api_version": "the v1 API of Azure has no versions",
}  # fmt: skip
_WHY_ROUTER = {
    "fallbacks": _FALLBACKS, "context_window_fallbacks": _FALLBACKS,
    "content_policy_fallbacks": _FALLBACKS, "default_fallbacks": _FALLBACKS,
    "allowed_fails": "a replica that fails is passed over by a rule of the gateway's own",
    "cooldown_time": "a replica that fails is passed over by a rule of the gateway's own",
    "redis_host": _REDIS, "redis_port": _REDIS, "redis_password": _REDIS, "redis_url": _REDIS,
}  # fmt: skip
_WHY_LITELLM = {
    **_WHY_ROUTER, "success_callback": _CALLBACKS, "failure_callback": _CALLBACKS,
    "callbacks": _CALLBACKS, "cache": _CACHE, "cache_params": _CACHE,
    "drop_params": "parameters are passed on as they are",
    "max_budget": "budgets are not enforced here",
}  # fmt: skip
_WHY_GENERAL = {
    "database_url": _DATABASE, "store_model_in_db": _DATABASE, "alerting": _CALLBACKS,
}  # fmt: skip


def read_litellm(located: Located, losses: Losses, reserved: frozenset[str]) -> Draft:
    """Raises ManifestError when it is no such file; `reserved` as in `Draft`."""
    top = Section(_merged(located.data), (), losses)
    deployments = top.take("model_list")
    if not isinstance(deployments, list):
        raise ManifestError("there is no model_list: is it a LiteLLM config.yaml?")
    draft = Draft(losses, Listen(LOCAL, PORT), reserved)
    credentials = _credentials(top)
    times: _Times = {}
    for number, deployment in enumerate(deployments):
        section = Section(deployment, ("model_list", number), losses)
        _Deployment(draft, section, credentials, times).read()
    for service in draft.services.values():
        _weigh(service)
        _time(service, times[service.name], losses)
    _router(draft, top.section("router_settings", why=_WHY_ROUTER), top)
    _general(draft, top.section("general_settings", why=_WHY_GENERAL))
    variables = top.section("environment_variables")
    variables.end("is not copied: set it where the gateway is started, if it is still needed")
    top.end()
    return draft


_Times = dict[str, list[tuple[Path, float | None]]]
"""The time of each deployment of a service, and where it says so."""


class _Deployment:
    """One item of the model list."""

    def __init__(
        self, draft: Draft, section: Section, credentials: dict[str, Any], times: _Times
    ) -> None:
        self._times = times
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
        service = self._draft.service(name, (*self._section.path, "model_name"))
        if service is None:
            self._lose("is left out with its name")
            return
        key = self._key(params, kind, name)
        slots = params.number("max_parallel_requests")
        endpoint = endpoint_of(base_url, key, slots, params.path, self._losses)
        release = DraftRelease(kind, model, take_sampling(params))
        release.rates = self._rates(params)
        release.endpoints.append(endpoint)
        timeout = ((*params.path, "timeout"), params.number("timeout"))
        self._times.setdefault(name, []).append(timeout)
        _join(service, release)
        self._section.lose("model_info", "prices and properties of models are not kept here")
        params.end()
        self._section.end()

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
        if text.startswith(_FROM_ENV):
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
        if value.startswith(_FROM_ENV):
            name = value.removeprefix(_FROM_ENV)
            if ENV.fullmatch(name):
                return name
            self._losses.add(path, "names no environment variable")
            return None
        if is_placeholder(value):
            return None
        return self._draft.variable_for(value, path, service)

    def _rates(self, params: Section) -> dict[str, float]:
        found = {name: params.peek(name) for name in _RATES}
        params.take("weight")
        return {n: float(v) for n, v in found.items() if is_amount(v) and v > 0}


def _kind_of(model: str, provider: object) -> tuple[str, str]:
    if isinstance(provider, str) and provider:
        return provider, model.removeprefix(f"{provider}/")
    kind, slash, rest = model.partition("/")
    if slash:
        return kind, rest
    return ("openai" if _OPENAI_MODELS.match(model) else ""), model


def _join(service: DraftService, release: DraftRelease) -> None:
    """The same model of the same kind of provider is the same release, in another place."""
    for other in service.releases:
        mine = (other.kind, other.model, other.sampling)
        if mine == (release.kind, release.model, release.sampling):
            other.endpoints += [e for e in release.endpoints if e not in other.endpoints]
            other.weight += release.weight
            for name, rate in release.rates.items():
                other.rates[name] = other.rates.get(name, 0.0) + rate
            return
    service.releases.append(release)


def _time(service: DraftService, times: list[tuple[Path, float | None]], losses: Losses) -> None:
    """The longest of the deployments' times is the service's."""
    given = [timeout for _, timeout in times if timeout]
    if not given:
        return
    service.timeout_s = max(given)
    for path, timeout in times:
        if timeout and len(set(given)) + len(times) - len(given) > 1:
            losses.add(path, f"the service as a whole has {service.timeout_s:g} seconds")


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


def _router(draft: Draft, router: Section, top: Section) -> None:
    settings = top.section("litellm_settings", why=_WHY_LITELLM)
    strategy = router.take("routing_strategy")
    if strategy not in (None, "simple-shuffle", "least-busy"):
        path: Path = ("router_settings", "routing_strategy")
        draft.losses.add(path, "releases are chosen by weight, their replicas by load")
    if "timeout" in router:
        settings.lose("request_timeout", "router_settings.timeout goes before it")
    if "num_retries" in router:
        settings.lose("num_retries", "router_settings.num_retries goes before it")
    timeout = router.number("timeout") or settings.number("request_timeout")
    for service in draft.services.values():
        service.timeout_s = service.timeout_s or timeout
    attempts: int | None = None
    for section in (router, settings):
        retries = section.number("num_retries")
        if retries is not None and attempts is None:
            attempts = attempts_for(retries, (*section.path, "num_retries"), draft.losses)
    for service in draft.services.values():
        service.attempts = attempts
    _aliases(draft, router)
    router.end()
    settings.end()


def _aliases(draft: Draft, router: Section) -> None:
    aliases = router.section("model_group_alias")
    for alias in aliases.keys:
        target = aliases.take(alias)
        path = (*aliases.path, alias)
        if isinstance(target, dict):
            target = target.get("model")
        model = draft.services.get(target) if isinstance(target, str) else None
        if model is None:
            draft.losses.add(path, "leads to no service that was carried over")
        elif alias in draft.services:
            draft.losses.add(path, "is the name of a service already")
        else:
            made = draft.service(alias, path)
            if made is not None:
                made.releases = model.releases
                made.timeout_s, made.attempts = model.timeout_s, model.attempts


def _general(draft: Draft, general: Section) -> None:
    if "master_key" in general:
        draft.wants_key = True
        path = (*general.path, "master_key")
        value = general.take("master_key")
        if isinstance(value, str) and value.startswith(_FROM_ENV):
            draft.losses.add(path, "is not taken over: a fresh key was made")
        else:
            draft.losses.add(
                path,
                "holds a secret in clear text, which is not copied: a fresh key was made; do not "
                "use the old one any more, since it lay in a file",
            )
    general.end()


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
