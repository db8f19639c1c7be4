"""Asks one replica for a real answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.replica import Launch
from fairlead.domain.variables import variable_problem
from fairlead.targets.http import HttpFailed, request
from fairlead.targets.lifecycle import Probe

LOCAL_TIMEOUT_S = 3.0
REMOTE_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 5.0
BUSY_PATH = "/metrics"
"""llama.cpp and vLLM answer it between two steps of work, also when all slots are taken."""

TOO_MANY_REQUESTS = 429
SHOWN_BYTES = 300
KEY_BYTES_MAX = 16 * 1024
RESULT_FIELDS = ("choices", "data")


class KeyMissing(Exception):
    """The provider's key is not where the release says."""


async def probe(launch: Launch, base_url: str, environ: Mapping[str, str]) -> tuple[Probe, str]:
    """What the replica answers, and what is wrong when it does not.

    With a body it is a completion (or an embedding) that has to hold a result. A replica of ours
    whose slots are all taken answers late; then it is enough that its loop still turns. A provider
    that asks for fewer requests works.
    """
    remote = launch.base_url is not None
    body = None if launch.probe_body is None else msgspec.json.encode(launch.probe_body)
    try:
        answer = await request(
            base_url + launch.probe_path,
            body=body,
            headers=_key(launch, environ),
            timeout_s=REMOTE_TIMEOUT_S if remote else LOCAL_TIMEOUT_S,
            outbound=launch.outbound,
            environ=environ,
        )
    except KeyMissing as missing:
        return Probe.HOPELESS, str(missing)
    except HttpFailed as failed:
        if failed.is_late and not remote and await _is_busy(base_url):
            return Probe.BUSY, "its slots are all taken"
        return Probe.BAD, f"probe: {failed}"
    if answer.status == TOO_MANY_REQUESTS and remote:
        # It is there, and sent others their answers: this key or this moment has its share.
        return Probe.BUSY, "probe: status 429: too many requests"
    if answer.status != 200:
        shown = answer.body[:SHOWN_BYTES].decode(errors="replace")
        return Probe.BAD, f"probe: status {answer.status}: {shown}"
    if body is not None and not _has_result(answer.body):
        return Probe.BAD, "probe: the answer holds no result"
    return Probe.GOOD, ""


async def _is_busy(base_url: str) -> bool:
    try:
        answer = await request(
            base_url + BUSY_PATH, body=None, headers={}, timeout_s=BUSY_TIMEOUT_S
        )
    except HttpFailed:
        return False
    return answer.status == 200


def _has_result(body: bytes) -> bool:
    try:
        answer = decode_json(body, object)
    except msgspec.DecodeError:
        return False
    return isinstance(answer, dict) and any(answer.get(field) for field in RESULT_FIELDS)


def _key(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    if launch.api_key_env:
        if problem := variable_problem(launch.api_key_env):
            raise KeyMissing(f"the provider's key: the variable {launch.api_key_env} {problem}")
        key = environ.get(launch.api_key_env, "").strip()
        where = f"environment variable {launch.api_key_env}"
        advice = "set it, then start `fairlead up` again"
    elif launch.api_key_file:
        where = f"file {launch.api_key_file}"
        advice = "put the key there"
        try:
            with Path(launch.api_key_file).expanduser().open("rb") as file:
                key = file.read(KEY_BYTES_MAX).decode(errors="replace").strip()
        except OSError as error:
            raise KeyMissing(f"the provider's key: {where}: {error.strerror}; {advice}") from error
    else:
        return {}
    if not key:
        raise KeyMissing(f"the provider's key: {where} is not set or empty; {advice}")
    if not (key.isascii() and key.isprintable()):
        raise KeyMissing(f"the provider's key: {where} holds no key; {advice}")
    return {"Authorization": f"Bearer {key}"}
