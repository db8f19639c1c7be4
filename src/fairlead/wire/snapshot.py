"""The snapshot: the immutable routing state that the gateway runs on.

Control computes it, a gateway worker swaps it in whole, and keeps it on disk to start from while
control is down. Adding an optional field is compatible in both directions.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.domain.capture import Capture
from fairlead.domain.decoding import decode_json
from fairlead.domain.fault import Fault
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.quota import NO_QUOTA, Limit, Price, Quota, limits_of
from fairlead.domain.release import Prompt, SamplingValue
from fairlead.domain.strata import Strata
from fairlead.wire.quota import QuotaReport

Balance = Literal["prefix", "least_loaded"]

LLAMA_CPP = "llama.cpp"
VLLM = "vllm"
CONTINUING = frozenset({LLAMA_CPP, VLLM})
"""Engines that go on from a text that another replica of the release began."""


class KeyEntry(msgspec.Struct, frozen=True):
    """An API key that the gateway accepts; only its digest is known.

    Attributes:
        id: Public id, written into records.
        sha256: Hex SHA-256 of the key as the client sends it.
        priority: Its requests go before those of keys with a lower one, where they have to wait.
        tenant: Whose limits count for it too.
    """

    id: str
    name: str
    sha256: str
    tenant: str | None = None
    quota: Quota = NO_QUOTA
    priority: int = 0


class Endpoint(msgspec.Struct, frozen=True):
    """Where a replica is reached.

    Attributes:
        replica: Id of the replica.
        base_url: `http(s)://host[:port][/path]`; request paths such as `/v1/chat/completions`
            are appended to it without their `/v1` when it ends in a path of its own.
        slots: Requests it serves at the same time; more than that wait in the gateway.
        api_key_env: Environment variable with the provider's key (remote replicas only).
        api_key_file: File with the provider's key (remote replicas only).
        outbound: How the provider is reached (remote replicas only).
    """

    replica: str
    base_url: str
    slots: int = 4
    api_key_env: str | None = None
    api_key_file: str | None = None
    outbound: Outbound = DIRECT


class ReleaseRoute(msgspec.Struct, frozen=True):
    """How to serve one release: its replicas, what its prompt does to a request, its cost.

    Attributes:
        continues: The engine, if it can go on from a text that another replica began:
            `llama.cpp` or `vllm`. A name that the gateway does not know means that it cannot.
        fault: It is a drill's: this is done to its answers.
        guardrails: What its prompts and answers must not have, as they hold now: control may have
            made one block that the release only flags by.
    """

    digest: str
    name: str
    endpoints: tuple[Endpoint, ...]
    prompt: Prompt = Prompt()
    sampling: dict[str, SamplingValue] = {}
    upstream_model: str | None = None
    price: Price | None = None
    continues: str | None = None
    fault: Fault | None = None
    guardrails: tuple[Guardrail, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """What one service may take up. Everything has a bound, in each gateway worker.

    Attributes:
        queue: Requests that may wait for a free slot; one more is answered 429.
        queue_timeout_s: Seconds a request may wait; then 503 with `retry-after`.
        request_timeout_s: Seconds from the request's last byte to the answer's last byte.
        body_bytes_max: Largest request body.
        attempts: Replicas tried for one request, the first included.
        attempt_timeout_s: Seconds from an attempt's begin to the first byte of its answer; then
            another replica is tried. None for as long as the request may take.
        hedge_after_ms: Milliseconds after which an embeddings request that has no answer is sent to
            a second replica, too; the first answer counts. None for never.
        quota: What may be used of it in all workers together.
    """

    queue: int = 256
    queue_timeout_s: float = 10.0
    request_timeout_s: float = 120.0
    body_bytes_max: int = 8 * 1024 * 1024
    attempts: int = 3
    attempt_timeout_s: float | None = None
    hedge_after_ms: float | None = None
    quota: Quota = NO_QUOTA


class Shadow(msgspec.Struct, frozen=True):
    """A release that gets copies of live requests; its answers are recorded and thrown away.

    Attributes:
        release: Its digest; its route is among the service's `releases`.
        share: Probability in [0, 1] with which a request is copied.
        concurrent: Copies that one gateway worker has open at most; further ones are dropped.
        timeout_s: Seconds after which a copy is ended; 0 for those of the service's limits.
    """

    release: str
    share: float
    concurrent: int = 16
    timeout_s: float = 0.0


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is sent to one arm with certainty, for testing; what they do is not counted.

    Attributes:
        keys: Ids of API keys.
        sessions: Beginnings of `x-session-id`.
    """

    arm: Literal["canary", "champion"]
    keys: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


class Finishing(msgspec.Struct, frozen=True):
    """Conversations that stay on a release which all others have left; they are not counted.

    Attributes:
        release: Its digest; its route is among the service's `releases`.
        units: Hashes of their sessions, 16 hex digits each.
    """

    release: str
    units: tuple[str, ...]


class ServiceRoute(msgspec.Struct, frozen=True):
    """Who answers for a service.

    A unit (session, user or key) goes to the canary when its salted hash, as a number in [0, 1),
    is below `canary_share`. A new phase has a new salt. With more than two releases, `weights` says
    who gets how much instead.

    Attributes:
        champion: Digest of the release that serves all other units; None before the first.
        canary: Digest of the release under trial, or None.
        canary_share: Probability in [0, 1] with which a unit goes to the canary.
        weights: Digest and probability of each of more than two releases, the champion first; the
            probabilities add up to 1. Empty when champion and canary say it all.
        rollout: Id of the rollout that set this split, or None.
        phase: Number of the split within the rollout; written into records.
        salt: Salt of the assignment hash; differs per phase.
        fallbacks: Services whose champion answers, the first that can, when this one cannot.
        shadow: Which release gets copies of the requests, or None.
        balance: How a replica is chosen: `prefix` sends a request to the one that has the longest
            part of its prompt cached, within bounds of load; `least_loaded` looks at load alone.
        pins: Who is sent to one arm whatever the hash says; the first that fits.
        finishing: Which sessions stay on another release for a while, or None.
        capture: What is kept of its prompts and answers; None for nothing.
        facts: What the gateway looks for in the texts of answers: `refusal`, `format`, `json`. A
            name that it does not know is nothing to it.
        harm: Requests that one worker may assign to the canary at most, over all snapshots of this
            rollout, because it is a drill; None for any number.
        strata: How its requests are told apart by their risk, in records; None for not at all.
    """

    name: str
    releases: dict[str, ReleaseRoute]
    champion: str | None
    canary: str | None = None
    canary_share: float = 0.0
    rollout: str | None = None
    phase: int = 0
    salt: str = ""
    limits: Limits = Limits()
    weights: tuple[tuple[str, float], ...] = ()
    fallbacks: tuple[str, ...] = ()
    shadow: Shadow | None = None
    balance: Balance = "least_loaded"
    pins: tuple[Pin, ...] = ()
    finishing: Finishing | None = None
    capture: Capture | None = None
    facts: tuple[str, ...] = ()
    harm: int | None = None
    strata: Strata | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The whole routing state.

    Attributes:
        version: Grows with each change; never goes back.
        request_id_key: Hex key of the tag inside request ids, by which any worker can tell that a
            request id was given to the key that now sends feedback for it.
        open: No key is asked for. Only a gateway that runs alone, on loopback, is ever told so.
        tenants: What may be used by all keys of a tenant together.
        workers: How many gateway workers share the limits.
        allow_hosts, allow_origins: When open: by which names clients may call the gateway, beside
            those of loopback, and from which pages; see `fairlead.gateway.front.door`.
    """

    version: int
    request_id_key: str
    keys: tuple[KeyEntry, ...] = ()
    services: dict[str, ServiceRoute] = {}
    tenants: dict[str, Quota] = {}
    workers: int = 1
    schema: Literal[1] = 1
    open: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()


class SyncRequest(msgspec.Struct, frozen=True):
    """What a gateway worker tells control when it asks for a newer snapshot.

    Attributes:
        worker: Number of the worker, 0 upwards.
        boot: Id of this life of the worker; also the name of its spool folder.
        pid: Its process id.
        version: Version of the snapshot it runs on; 0 for none.
        open_replicas: Replicas on which it has requests open that began under any snapshot.
        wait_s: How long control may hold the answer back until there is a newer snapshot.
        quota: What it has used of limits, and what it lacks.
        at: Unix time by the clock that dates its records; 0 if it does not say.
        unwritten: Records that wait, since its spool cannot be written.
        lost: Records that it has lost since it began.
    """

    worker: int
    boot: str
    pid: int
    version: int
    open_replicas: tuple[str, ...] = ()
    wait_s: float = 1.0
    quota: QuotaReport | None = None
    at: float = 0.0
    unwritten: int = 0
    lost: int = 0


def declared_limits(snapshot: Snapshot) -> dict[str, Limit]:
    """All limits of a snapshot, by id."""
    found: list[Limit] = []
    for key in snapshot.keys:
        found += limits_of(key.quota, "key", key.id)
    for name, quota in snapshot.tenants.items():
        found += limits_of(quota, "tenant", name)
    for service in snapshot.services.values():
        found += limits_of(service.limits.quota, "service", service.name)
    return {limit.id: limit for limit in found}


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The JSON form, as sent and as kept on disk."""
    return msgspec.json.encode(snapshot)


def decode_snapshot(data: bytes) -> Snapshot:
    """Raises `msgspec.DecodeError` (or its `ValidationError`) when it is not a snapshot."""
    return decode_json(data, Snapshot)
