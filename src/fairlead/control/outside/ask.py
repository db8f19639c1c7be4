"""Sends an evaluation's cases to replicas, as the gateway would send a client's request.

The requests go to the replicas directly: a release under evaluation gets nothing from clients.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fairlead.domain.errors import Unavailable
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.prompting import apply_release
from fairlead.domain.release import Release, RemoteModel
from fairlead.domain.variables import variable_problem
from fairlead.evaluation.cases import Case
from fairlead.evaluation.runner import Answer
from fairlead.targets.http import Answer as HttpAnswer
from fairlead.targets.http import HttpFailed, request

ERROR_BYTES_MAX = 4096
ERROR_CHARS_MAX = 200
NAME_CHARS_MAX = 200


class Completion(NamedTuple):
    """An answer with what the server says of it; `status` is a refusal's where there is no text.

    Attributes:
        model, fingerprint: As the server names what answered; empty where it says nothing.
        prompt_tokens, completion_tokens: 0 where it does not say.
        body: As it came; empty where there is no text.
    """

    text: str
    latency_ms: float
    model: str = ""
    fingerprint: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    status: int = 200
    body: bytes = b""


class ReplicaClient:
    """Asks one release's replicas in turn.

    Args:
        base_urls: Gives the ready replicas' base URLs at the moment of the call.
        timeout_s: Seconds one request may take.
    """

    def __init__(
        self, release: Release, base_urls: Callable[[], Sequence[str]], *, timeout_s: float = 60.0
    ) -> None:
        self._release = release
        self._base_urls = base_urls
        self._timeout_s = timeout_s
        self._turn = itertools.count()

    @property
    def guardrails(self) -> tuple[Guardrail, ...]:
        """Those that the release declares."""
        return self._release.guardrails or ()

    async def __call__(self, case: Case) -> Answer:
        """The release's answer to the case; raises Unavailable when there is none."""
        completion = await self.complete(case)
        if completion.status != 200:
            raise Unavailable(completion.text)
        return Answer(text=completion.text, latency_ms=completion.latency_ms)

    async def complete(
        self,
        case: Case,
        given: Mapping[str, Any] | None = None,
    ) -> Completion:
        """The same with all that the server says; `given` goes before the release's sampling.

        A status other than 200 is answered with what the server says of it. Raises Unavailable when
        there is no answer at all.
        """
        urls = self._base_urls()
        if not urls:
            raise Unavailable("no replica of the release is ready")
        url = urls[next(self._turn) % len(urls)]
        remote = self._release.model if isinstance(self._release.model, RemoteModel) else None
        messages = (
            [{"role": "user", "content": case.input}]
            if isinstance(case.input, str)
            else list(case.input)
        )
        body = apply_release(
            {"model": "evaluation", "messages": messages, **(given or {})},
            prompt=self._release.prompt,
            sampling=self._release.sampling,
            upstream_model=remote.model if remote else None,
        )
        key = provider_key(remote) if remote else None
        return await self._post(url, body, key, remote)

    async def call(self, call: str, body: Mapping[str, Any]) -> HttpAnswer:
        """Another call of the API, the release's model put into the body.

        Raises Unavailable when there is no answer at all.
        """
        urls = self._base_urls()
        if not urls:
            raise Unavailable("no replica of the release is ready")
        url = urls[next(self._turn) % len(urls)]
        remote = self._release.model if isinstance(self._release.model, RemoteModel) else None
        named = {"model": remote.model if remote else "evaluation", **body}
        key = provider_key(remote) if remote else None
        outbound = (remote.outbound or DIRECT) if remote else DIRECT
        try:
            return await post_call(url, call, named, key, outbound, self._timeout_s)
        except HttpFailed as error:
            raise Unavailable(f"replica {urlsplit(url).netloc}: {error}") from None

    async def _post(
        self,
        base_url: str,
        body: dict[str, Any],
        key: str | None,
        remote: RemoteModel | None,
    ) -> Completion:
        started = time.monotonic()
        netloc = urlsplit(base_url).netloc
        outbound = (remote.outbound or DIRECT) if remote else DIRECT
        try:
            answer = await post_chat(base_url, body, key, outbound, self._timeout_s)
        except HttpFailed as error:
            raise Unavailable(f"replica {netloc}: {error}") from None
        took_ms = (time.monotonic() - started) * 1e3
        if answer.status != 200:
            said = _said(answer.body, key)
            told = f"replica {netloc} answered {answer.status}"
            return Completion(told + (f": {said}" if said else ""), took_ms, status=answer.status)
        return _completion(answer.body, took_ms)


async def post_chat(
    base_url: str, body: Mapping[str, Any], key: str | None, outbound: Outbound, timeout_s: float
) -> HttpAnswer:
    """Ask a server for a chat completion; raises HttpFailed.

    Args:
        base_url: With a path, that of the API (`https://host/v1`); without one, `/v1` is meant.
    """
    return await post_call(base_url, "chat/completions", body, key, outbound, timeout_s)


async def post_call(
    base_url: str,
    call: str,
    body: Mapping[str, Any],
    key: str | None,
    outbound: Outbound,
    timeout_s: float,
) -> HttpAnswer:
    """The same for any call of the API, such as `completions`; raises HttpFailed."""
    parts = urlsplit(base_url)
    path = f"{parts.path.rstrip('/') or '/v1'}/{call}"
    return await request(
        f"{parts.scheme}://{parts.netloc}{path}",
        body=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout_s=timeout_s,
        outbound=outbound,
        environ=os.environ,
    )


def _said(data: bytes, key: str | None) -> str:
    """What an error answer says for itself, on one short line; never the key that was sent."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        found = data[:ERROR_BYTES_MAX].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(found, dict):
            found = found.get(name, found)
    text = found if isinstance(found, str) else json.dumps(found)
    if key:
        text = text.replace(key, "[key]")
    text = "".join(c if c.isprintable() else " " for c in text[:ERROR_BYTES_MAX])
    line = " ".join(text.split())
    return line if len(line) <= ERROR_CHARS_MAX else line[:ERROR_CHARS_MAX] + "…"


def provider_key(remote: RemoteModel) -> str | None:
    """The provider's key from where the release says it is; raises Unavailable if it is not."""
    if remote.api_key_env is not None:
        if problem := variable_problem(remote.api_key_env):
            raise Unavailable(f"the environment variable {remote.api_key_env} {problem}")
        key = os.environ.get(remote.api_key_env)
        if not key:
            raise Unavailable(f"the environment variable {remote.api_key_env} is not set")
        return key
    if remote.api_key_file is not None:
        try:
            return Path(remote.api_key_file).read_text().strip()
        except OSError as error:
            raise Unavailable(f"{remote.api_key_file}: {error.strerror}") from None
    return None


def _completion(data: bytes, took_ms: float) -> Completion:
    text, document = _text(data), json.loads(data)
    usage = document.get("usage")

    def named(name: str) -> str:
        value = document.get(name)
        return value[:NAME_CHARS_MAX] if isinstance(value, str) else ""

    def tokens(name: str) -> int:
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if type(value) is int and 0 <= value < 2**31 else 0

    return Completion(
        text,
        took_ms,
        named("model"),
        named("system_fingerprint"),
        tokens("prompt_tokens"),
        tokens("completion_tokens"),
        body=data,
    )


def _text(data: bytes) -> str:
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise Unavailable("the replica's answer is not a chat completion") from None
    return content if isinstance(content, str) else json.dumps(content)
