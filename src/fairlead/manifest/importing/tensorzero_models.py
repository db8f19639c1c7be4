"""The models of a `tensorzero.toml`, and the providers that serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fairlead.manifest.importing.draft import (
    ENV,
    Draft,
    DraftRelease,
    azure_url_of,
    base_url_of,
    endpoint_of,
)
from fairlead.manifest.importing.providers import AZURE, TENSORZERO
from fairlead.manifest.importing.section import Section
from fairlead.manifest.importing.tensorzero_limits import (
    attempt_time,
    take_price,
    take_times,
    whole_time,
)
from fairlead.manifest.lines import Path

EXTRA = "requests are passed on with nothing added but model, prompt and sampling"
_SHORT = "::"
_WHY_MODEL = {"skip_relay": "there is no relay"}
_WHY_PROVIDER = {
    "batch_cost": "there are no batches",
    "extra_body": EXTRA, "extra_headers": EXTRA, "provider_tools": EXTRA,
}  # fmt: skip


class Model(NamedTuple):
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


def longest(times: Sequence[float | None]) -> float | None:
    """The longest of them; None where one of them has no end."""
    given = [time for time in times if time is not None]
    return max(given) if given and len(given) == len(times) else None


class Models:
    """The models of the file, by name, and those that can be named without being in it."""

    def __init__(self, draft: Draft, top: Section) -> None:
        self._draft = draft
        self._losses = draft.losses
        self._default_keys = _default_keys(top)
        self.declared: dict[str, Model] = {}
        for table in ("models", "embedding_models"):
            models = top.section(table)
            for name in models.keys:
                model = models.section(name, why=_WHY_MODEL)
                found = self._model(model)
                if found is None:
                    self._losses.add(model.path, "has no provider that can be carried over")
                elif name in self.declared:
                    self._losses.add(model.path, "is the name of another model too")
                else:
                    self.declared[name] = found

    def named(self, name: str, path: Path) -> Model | None:
        """The model that a variant names at this path."""
        return self.declared.get(name) or self._by_short_name(name, path)

    def _by_short_name(self, model: str, path: Path) -> Model | None:
        kind, separator, name = model.partition(_SHORT)
        provider = TENSORZERO.get(kind)
        if not separator or provider is None or not provider.base_url or _SHORT in name:
            self._losses.add(path, "names no model that was carried over")
            return None
        key = self._default_keys.get(kind, provider.key) or None
        endpoint = endpoint_of(provider.base_url, key, None, path, self._losses)
        return Model(path, DraftRelease(kind, name, endpoints=[endpoint]))

    def _model(self, model: Section) -> Model | None:
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
        return Model(model.path, release, tuple(spares), timeout_s, longest(times))

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
