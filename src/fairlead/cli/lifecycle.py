"""`fairlead up` and `fairlead down`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from fairlead.app.state import StatePaths
from fairlead.app.supervisor import Supervisor
from fairlead.app.up_settings import TELEMETRY_DAYS, TRACE_SHARE, UpSettings
from fairlead.cli.api import ControlClient
from fairlead.cli.options import STATE_DEFAULT, StateOption, console, say, stderr
from fairlead.control.limits.first_key import FirstKey
from fairlead.domain.errors import Conflict, FairleadError, InvalidInput, Unavailable
from fairlead.gateway.front.scrapers import Access
from fairlead.gateway.settings import TlsFiles

READY_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 90.0

PortOption = Annotated[int, typer.Option(help="Gateway port; 0 for any free one.")]
ControlPortOption = Annotated[int, typer.Option(help="Control API port; 0 for any.")]
HostOption = Annotated[str, typer.Option(help="Address of the gateway.")]
ControlHostOption = Annotated[
    str, typer.Option(help="Address of the control API: plain HTTP, for who has its token.")
]
WorkersOption = Annotated[int, typer.Option(min=1, max=64, help="Gateway processes.")]
WorkerMemoryOption = Annotated[
    int | None,
    typer.Option(
        min=128,
        help="Memory that each gateway process may have; without it, a part of the machine's.",
    ),
]
TelemetryDaysOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=36_500,
        help="Days for which request records are kept in the telemetry store; 0 for no store.",
    ),
]
OtlpOption = Annotated[
    str, typer.Option(help="Trace requests, and send the spans to this OTLP endpoint (HTTP).")
]
TraceShareOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of requests that are traced where their client says nothing of it.",
    ),
]
MetricsOption = Annotated[
    Access,
    typer.Option(
        help="Who may read the gateway's metrics: local (programs on this machine, and who has "
        "run/metrics.token), token (only who has it), or open."
    ),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option(help="Serve HTTPS: PEM file with the gateway's certificate and its chain."),
]
TlsKeyOption = Annotated[Path | None, typer.Option(help="PEM file with its private key.")]
TlsClientCaOption = Annotated[
    Path | None,
    typer.Option(help="Let in only clients with a certificate of these authorities (PEM)."),
]


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)


def up(
    state: StateOption = STATE_DEFAULT,
    port: PortOption = 7600,
    control_port: ControlPortOption = 7601,
    host: HostOption = "127.0.0.1",
    control_host: ControlHostOption = "127.0.0.1",
    workers: WorkersOption = 2,
    worker_memory_mb: WorkerMemoryOption = None,
    telemetry_days: TelemetryDaysOption = TELEMETRY_DAYS,
    otlp: OtlpOption = "",
    trace_share: TraceShareOption = TRACE_SHARE,
    metrics: MetricsOption = "local",
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
) -> None:
    """Run gateway, control and observer in the foreground until Ctrl-C."""
    for given in (port, control_port):
        if not 0 <= given <= 65535:
            raise InvalidInput(f"{given} is not a port")
    tls = _tls(tls_cert, tls_key, tls_client_ca)
    if otlp:
        from fairlead.observer.otlp import parse_endpoint

        parse_endpoint(otlp)
    settings = UpSettings(
        host=host,
        control_host=control_host,
        gateway_port=port,
        control_port=control_port,
        workers=workers,
        tls=tls,
        worker_memory_mb=worker_memory_mb,
        telemetry_days=telemetry_days,
        otlp=otlp,
        trace_share=trace_share,
        metrics=metrics,
    )
    _run(StatePaths(state), settings)


def _run(paths: StatePaths, settings: UpSettings) -> None:
    """Run an installation until it is told to stop."""
    paths.create()
    with paths.locked():
        supervisor = Supervisor(paths, settings, lambda line: say((line, "yellow"), to=stderr))
        supervisor.install_signal_handlers()
        try:
            supervisor.start()
            threading.Thread(target=_greet, args=(paths, supervisor), daemon=True).start()
            supervisor.run()
        finally:
            console.print("stopping …")
            supervisor.stop()
    console.print("stopped")


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InvalidInput("TLS takes a certificate and its key: give --tls-cert and --tls-key")
    return TlsFiles(
        cert=str(cert.absolute()),
        key=str(key.absolute()),
        client_ca=None if client_ca is None else str(client_ca.absolute()),
    )


def _greet(paths: StatePaths, supervisor: Supervisor) -> None:
    """Say where everything is once control answers; show a first key if there is none yet."""
    control = ControlClient(supervisor.info.control_url, paths.read_token())
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            first = control.post(FirstKey, "keys", "first")
            break
        except FairleadError as error:
            if time.monotonic() > deadline:
                say(("control does not come up:", "red"), f" {error.message}", to=stderr)
                say((f"its output is in {paths.logs / 'control.log'}", "dim"), to=stderr)
                return
            time.sleep(0.1)
    say(("fairlead is up", "bold"), "  gateway ", (f"{supervisor.info.gateway_url}/v1", "cyan"))
    if first.key is not None:
        say("first API key, shown only now: ", (first.key, "bold"), whole=True)
    say(("next, in another terminal: fairlead ship    (Ctrl-C here stops all)", "dim"))
    # Into a file or a pipe, too, this must be there while `up` goes on.
    console.file.flush()


def down(state: StateOption = STATE_DEFAULT) -> None:
    """Stop the `fairlead up` that runs on a state folder, and wait until it has."""
    paths = StatePaths(state)
    info = paths.require_up()
    if info.pid == os.getpid():
        raise Conflict("that is this process")
    os.kill(info.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while paths.is_locked():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"fairlead (pid {info.pid}) has not stopped after {DOWN_TIMEOUT_S:.0f} s",
                hint=f"see {paths.logs}",
            )
        time.sleep(0.05)
    console.print("stopped")


def installed_state(path: Path) -> StatePaths:
    """The state folder's places; raises Unavailable when nothing was ever there."""
    paths = StatePaths(path)
    if not paths.root.is_dir():
        raise Unavailable(
            f"{paths.root}: no state folder here",
            hint="`fairlead up` makes one; --state names another",
        )
    return paths
