"""The settings of a LiteLLM proxy's `config.yaml`: `router_settings`, `litellm_settings` and
`general_settings`. What both of the first two say, the router's says."""

from __future__ import annotations

from typing import Any

from fairlead.manifest.importing.draft import Draft, DraftService, attempts_for
from fairlead.manifest.importing.limits import put, put_budget
from fairlead.manifest.importing.section import Section
from fairlead.manifest.lines import Path

FROM_ENV = "os.environ/"
_BY_ERROR = "fallbacks answer whatever the failure is; those for one kind of it are not kept apart"
_RETRIES = "a service's `attempts` are the same for every kind of failure"
_COOLDOWN = "a replica that fails is passed over by a rule of the gateway's own"
_REDIS = "workers share nothing that would need Redis"
_DATABASE = "keys, teams, budgets and models in LiteLLM's database are not in this file"
_CACHE = "answers are not cached"
_CALLBACKS = "nobody is called back; records go to `spool`, figures to /metrics"
_PRIORITY = "keys have a `priority`: give it to them in the new file"
WHY_ROUTER = {
    "context_window_fallbacks": _BY_ERROR, "content_policy_fallbacks": _BY_ERROR,
    "retry_policy": _RETRIES, "model_group_retry_policy": _RETRIES,
    "retry_after": "the gateway waits by a rule of its own before it tries again",
    "allowed_fails": _COOLDOWN, "cooldown_time": _COOLDOWN, "allowed_fails_policy": _COOLDOWN,
    "redis_host": _REDIS, "redis_port": _REDIS, "redis_password": _REDIS, "redis_url": _REDIS,
    "stream_timeout":
        "a time to the first byte, `attempt_timeout_seconds`, holds plain answers too",
}  # fmt: skip
WHY_LITELLM = {
    **WHY_ROUTER, "success_callback": _CALLBACKS, "failure_callback": _CALLBACKS,
    "callbacks": _CALLBACKS, "cache": _CACHE, "cache_params": _CACHE,
    "drop_params": "parameters are passed on as they are", "priority_reservation": _PRIORITY,
    "upperbound_key_generate_params": _DATABASE, "default_team_params": _DATABASE,
}  # fmt: skip
WHY_GENERAL = {
    "database_url": _DATABASE, "store_model_in_db": _DATABASE, "alerting": _CALLBACKS,
}  # fmt: skip
_CHECK = "enforce_model_rate_limits"
_KEY_LIMITS = {"rpm_limit": "requests_per_minute", "tpm_limit": "tokens_per_minute"}


def enforces_limits(router: Section) -> bool:
    """Whether LiteLLM, too, refuses what is beyond a deployment's rpm and tpm."""
    strategy, checks = router.peek("routing_strategy"), router.peek("optional_pre_call_checks")
    is_by_usage = isinstance(strategy, str) and strategy.startswith("usage-based")
    if isinstance(checks, list) and _CHECK in checks:
        if checks == [_CHECK]:
            router.take("optional_pre_call_checks")
        return True
    return is_by_usage


def read_settings(draft: Draft, router: Section, settings: Section, general: Section) -> None:
    """Apply them to the services that there are."""
    _general(draft, general)
    strategy = router.take("routing_strategy")
    if strategy not in (None, "simple-shuffle", "least-busy"):
        path: Path = ("router_settings", "routing_strategy")
        draft.losses.add(path, "releases are chosen by weight, their replicas by load")
    if "timeout" in router:
        settings.lose("request_timeout", "router_settings.timeout goes before it")
    if "num_retries" in router:
        settings.lose("num_retries", "router_settings.num_retries goes before it")
    timeout = router.number("timeout") or settings.number("request_timeout")
    attempts: int | None = None
    for section in (router, settings):
        retries = section.number("num_retries")
        if retries is not None and attempts is None:
            attempts = attempts_for(retries, (*section.path, "num_retries"), draft.losses)
    for service in draft.services.values():
        service.timeout_s = service.timeout_s or timeout
        service.attempts = service.attempts or attempts
    for section in (router, settings):
        _fallbacks(draft, section)
    _budget(draft, settings)
    _aliases(draft, router)
    router.end()
    settings.end()


def _fallbacks(draft: Draft, section: Section) -> None:
    listed = section.take("fallbacks")
    path: Path = (*section.path, "fallbacks")
    for number, item in enumerate(listed if isinstance(listed, list) else []):
        for name, others in item.items() if isinstance(item, dict) else ():
            services = list(draft.services.values()) if name == "*" else []
            if isinstance(name, str) and name in draft.services:
                services = [draft.services[name]]
            if not services:
                draft.losses.add((*path, number), f"{name} is no service that was carried over")
            for service in services:
                _add(draft, service, others, (*path, number))
        if not isinstance(item, dict):
            draft.losses.add((*path, number), "does not say whose fallback it is")
    if listed is not None and not isinstance(listed, list):
        draft.losses.add(path, "is not a list")
    defaults = section.take("default_fallbacks")
    for service in list(draft.services.values()) if defaults is not None else ():
        _add(draft, service, defaults, (*section.path, "default_fallbacks"))


def _add(draft: Draft, service: DraftService, others: Any, path: Path) -> None:
    for other in others if isinstance(others, list) else [others]:
        if isinstance(other, str):
            draft.fall_back(service, other, path)
        else:
            draft.losses.add(path, "a fallback is a service, without parameters of its own")


def _budget(draft: Draft, settings: Section) -> None:
    """The proxy's own budget, and what each key that it makes may use: here there is one."""
    duration = settings.take("budget_duration")
    if "max_budget" in settings:
        path = (*settings.path, "max_budget")
        _usd(draft, settings.take("max_budget"), duration, path)
    keys = settings.section("default_key_generate_params")
    duration = keys.take("budget_duration")
    if not draft.wants_key:
        keys.end("no key is asked for")
        return
    if "max_budget" in keys:
        _usd(draft, keys.take("max_budget"), duration, (*keys.path, "max_budget"))
    for theirs, ours in _KEY_LIMITS.items():
        if theirs in keys:
            put(draft.limits, ours, keys.take(theirs), (*keys.path, theirs), draft.losses)
    keys.end()


def _usd(draft: Draft, usd: object, duration: object, path: Path) -> None:
    if not put_budget(draft.limits, usd, duration, path, draft.losses):
        return
    if any(not release.price for s in draft.services.values() for release in s.releases):
        why = "counts by the `price` of each release, which has to be given here"
        draft.losses.add(path, why)


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
                _copy(draft, model, made, path)


def _copy(draft: Draft, model: DraftService, made: DraftService, path: Path) -> None:
    made.releases = model.releases
    made.timeout_s, made.attempts = model.timeout_s, model.attempts
    made.fallbacks = [name for name in model.fallbacks if name != made.name]
    made.limits = dict(model.limits)
    if made.limits:
        draft.losses.add(path, f"has limits of its own here, as large as those of {model.name}")


def _general(draft: Draft, general: Section) -> None:
    if "master_key" in general:
        draft.wants_key = True
        path = (*general.path, "master_key")
        value = general.take("master_key")
        if isinstance(value, str) and value.startswith(FROM_ENV):
            draft.losses.add(path, "is not taken over: a fresh key was made")
        else:
            draft.losses.add(
                path,
                "holds a secret in clear text, which is not copied: a fresh key was made; do not "
                "use the old one any more, since it lay in a file",
            )
    general.end()
