"""A gateway before vLLM servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from gateway_rig import A, Limits, Rig, Snapshot, route, snapshot

from fairlead.wire.snapshot import Balance

Gateway = Callable[..., Awaitable[Rig]]
"""Starts a gateway before servers, given by their addresses."""


def before(*urls: str, version: int = 1, balance: Balance = "least_loaded") -> Snapshot:
    """What a gateway before these servers runs on."""
    limits = Limits(queue_timeout_s=60, request_timeout_s=300)
    champion = route(A, *urls, slots=32, continues="vllm")
    made = snapshot(champion, limits=limits, version=version)
    service = msgspec.structs.replace(made.services["bank"], balance=balance)
    return msgspec.structs.replace(made, services={"bank": service})
