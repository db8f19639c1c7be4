"""Replicas: running engines, as control wants them and as a target sees them."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from fairlead.domain.outbound import DIRECT, Outbound


class Launch(msgspec.Struct, frozen=True):
    """How to run one replica of an engine digest.

    Attributes:
        argv: The command; the item `{ready_file}` stands for a path to which the process writes
            its base URL (one line) once it listens, on a free loopback port of its own choice, and
            `{supervisor_pid}` for the process with which it must end (0 for none).
        env: Variables added to a minimal environment.
        base_url: For a model that runs elsewhere: where; `argv` is then empty.
        api_key_env, api_key_file: Where that provider's key is found.
        outbound: How that provider is reached.
        probe_path: Path of the probe; for an engine of ours a real, short completion.
        probe_body: JSON body of the probe (POST); None for a GET.
        slots: Requests one replica serves at the same time.
        start_timeout_s: Seconds from start to the first good probe, after which the start failed.
    """

    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    outbound: Outbound = DIRECT
    probe_path: str = "/v1/completions"
    probe_body: dict[str, Any] | None = None
    slots: int = 4
    start_timeout_s: float = 60.0


class Wanted(msgspec.Struct, frozen=True):
    """So many replicas of this engine digest shall run.

    Attributes:
        start: False: what runs is kept, but nothing is started, nor started again, since the
            weights could not be verified just now.
    """

    engine_digest: str
    count: int
    launch: Launch
    start: bool = True


class ReplicaState(enum.StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    """Runs, but its probe fails; gets no new requests."""
    SURPLUS = "surplus"
    """No longer wanted; runs on until its last request is answered."""
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    """Ended by itself; is started again at a time that moves further away with each failure."""
    FAILED = "failed"
    """Failed to start several times in a row. It is tried again every 30 s while its engine digest
    is wanted, since the cause may pass (a full disk, no memory), and stays in this state until it
    is READY."""


class ReplicaStatus(msgspec.Struct, frozen=True):
    """What a target sees of one replica.

    Attributes:
        base_url: Where it is reached; empty while it is not.
        pid: Its process; 0 for none.
        since: Unix time in seconds at which it came into this state.
        restarts: How often it was started again.
        detail: Last lines of its output, or the probe's error, where something is wrong.
    """

    id: str
    engine_digest: str
    state: ReplicaState
    base_url: str
    pid: int
    slots: int
    since: float
    restarts: int = 0
    detail: str = ""
