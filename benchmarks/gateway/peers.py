"""The proxies that are compared, each started with what its makers say and one core."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import nginx
from benchmarks.gateway.environments import Environments
from benchmarks.gateway.fairlead_proxy import FairleadGateway
from benchmarks.gateway.processes import Cores, Running, free_port, wait_answering
from benchmarks.gateway.traffic import KEY, SERVICE, chat_request

FAIRLEAD = "fairlead"
COMPILED = "fairlead-compiled"
"""The same with its request path compiled (`make compiled`)."""
OURS = (FAIRLEAD, COMPILED)
PEERS = ("envoy", "vllm-router", "sglang-router", "litellm", "nginx")
_LITELLM_ENVIRON = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}


@dataclass(frozen=True)
class Proxy:
    """A proxy that serves."""

    name: str
    port: int
    running: Running
    gateway: FairleadGateway | None = None


@contextlib.contextmanager
def serving(
    name: str,
    environments: Environments,
    folder: Path,
    cores: Cores,
    upstream: int,
    *,
    streams: bool = False,
) -> Iterator[Proxy]:
    """The proxy in front of the upstream, once it answers; it is ended afterwards."""
    folder.mkdir(parents=True)
    gateway = None
    if name in OURS:
        gateway = FairleadGateway(
            folder,
            cores=[cores.proxy],
            upstreams=[upstream],
            slots=2048 if streams else 256,
            compiled=environments.compiled if name == COMPILED else None,
        )
        proxy = Proxy(name, gateway.port, gateway.workers[0], gateway)
    else:
        port = free_port()
        command, environ = _start(name, environments, folder, port, upstream, streams=streams)
        running = Running(command, folder / "log", core=cores.proxy, environ=environ)
        proxy = Proxy(name, port, running)
    try:
        wait_answering(proxy.running, proxy.port, chat_request(0), KEY)
        if gateway is not None:
            gateway.check_build(proxy.running)
        yield proxy
    finally:
        if gateway is not None:
            gateway.stop()
        else:
            proxy.running.stop()


def _start(
    name: str,
    environments: Environments,
    folder: Path,
    port: int,
    upstream: int,
    *,
    streams: bool,
) -> tuple[list[str], dict[str, str]]:
    """Command and variables of a peer."""
    url = f"http://127.0.0.1:{upstream}"
    if name == "nginx":
        return nginx.proxy_command(folder, port, upstream, streams=streams), {}
    if name == "envoy":
        config = folder / "envoy.json"
        config.write_text(json.dumps(_envoy(port, upstream)), encoding="utf-8")
        envoy = [environments.program(name, "envoy"), "-c", str(config), "--concurrency", "1"]
        return [*envoy, "--log-level", "error", "--disable-hot-restart"], {}
    if name == "vllm-router":
        return [
            environments.program(name, "vllm-router"), "--worker-urls", url,
            *_router(port), "--log-level", "error",
        ], {}  # fmt: skip
    if name == "sglang-router":
        return [
            environments.program(name, "python"), "-m", "sglang_router.launch_router",
            "--worker-urls", url, *_router(port), "--log-level", "error",
        ], {}  # fmt: skip
    config = folder / "litellm.json"  # JSON is YAML.
    config.write_text(json.dumps(_litellm(url)), encoding="utf-8")
    litellm = [environments.program(name, "litellm"), "--config", str(config)]
    return [*litellm, "--host", "127.0.0.1", "--port", str(port)], _LITELLM_ENVIRON


def _router(port: int) -> list[str]:
    """What both routers are told; their limits are out of the way."""
    return [
        "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
        "--max-concurrent-requests", "32768", "--worker-startup-check-interval", "1",
    ]  # fmt: skip


def _litellm(url: str) -> dict[str, object]:
    parameters = {"model": f"openai/{SERVICE}", "api_base": f"{url}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": SERVICE, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": KEY},
    }


def _envoy(port: int, upstream: int) -> dict[str, object]:
    """One listener, one cluster, and the filter that reads `model` out of the body."""
    filters = "type.googleapis.com/envoy.extensions.filters"
    metadata = {
        "@type": f"{filters}.http.json_to_metadata.v3.JsonToMetadata",
        "request_rules": {
            "rules": [
                {
                    "selectors": [{"key": "model"}],
                    "on_present": {"metadata_namespace": "llm", "key": "model"},
                }
            ]
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "replica", "timeout": "120s"}}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "json_to_metadata", "typed_config": metadata},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
            },
        ],
    }
    bounds = {f"max_{name}": 100_000 for name in ("connections", "requests", "pending_requests")}
    cluster = {
        "name": "replica",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [bounds]},
        "load_assignment": {
            "cluster_name": "replica",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    listener = {
        "name": "l",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
