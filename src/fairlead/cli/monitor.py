"""`fairlead monitor`: monitors, a manifest's promises and routes, and dashboards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli import acting, monitors, vectors
from fairlead.cli.options import MANIFEST_DEFAULT, say
from fairlead.domain.errors import InvalidInput, NotFound, StorageFailed, Unavailable

if TYPE_CHECKING:
    from fairlead.domain.receivers import Receiver
    from fairlead.monitoring.telling import Message

app = typer.Typer(
    help="Monitors, promises as Prometheus rules, Grafana dashboards, whether alerts arrive.",
    no_args_is_help=True,
)
monitors.register(app)
acting.register(app)
vectors.register(app)
FilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", "-f", help="A manifest; may be given several times. fairlead.yaml if none is."
    ),
]


@app.command("rules")
def rules(file: FilesOption = None) -> None:
    """Print recording and alerting rules for Prometheus that watch what services promise."""
    from fairlead.cli.watching import promises_of
    from fairlead.gateway.records.metrics import TOKEN_BUCKETS_S
    from fairlead.gateway.records.tallies import DURATION_BUCKETS_S
    from fairlead.manifest import load_manifest
    from fairlead.monitoring.prometheus_rules import Bounds, rules_yaml

    promises = [promises_of(load_manifest(path)) for path in file or [MANIFEST_DEFAULT]]
    names = [promise.service for promise in promises]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two of the manifests are of the service {name}")
    typer.echo(rules_yaml(promises, Bounds(DURATION_BUCKETS_S, TOKEN_BUCKETS_S)), nl=False)


@app.command("dashboards")
def dashboards(
    out: Annotated[Path, typer.Option(help="The folder; it is made.")] = Path("dashboards"),
) -> None:
    """Write Grafana dashboards: of services, of a rollout, and of the platform itself."""
    from fairlead.monitoring.dashboards import all_dashboards, as_json

    for dashboard in all_dashboards():
        path = out / f"{dashboard.uid}.json"
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_json(dashboard))
        except OSError as error:
            raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from None
        say(f"{path}: {dashboard.words}")


@app.command("notify")
def notify(
    name: Annotated[
        str | None, typer.Argument(help="Name of the route; all of them if not given.")
    ] = None,
    file: Annotated[Path, typer.Option("--file", "-f", help="The manifest.")] = MANIFEST_DEFAULT,
) -> None:
    """Send a test alert, and its end, to where a manifest's alerts go."""
    import asyncio

    from fairlead.cli.watching import receivers_of
    from fairlead.manifest import load_manifest

    manifest = load_manifest(file)
    receivers = {key.partition("/")[2]: each for key, each in receivers_of(manifest).items()}
    if not receivers:
        raise NotFound("no route is declared", hint="declare `monitoring.routes` in the manifest")
    if name is not None and name not in receivers:
        raise NotFound(f"there is no route {name!r}", hint=f"there are: {', '.join(receivers)}")
    failed = 0
    for each, receiver in receivers.items():
        if name in (None, each):
            why = asyncio.run(_tested(each, receiver, manifest.service))
            say(f"{each}: {f'NOT sent: {why}' if why else 'sent'}")
            failed += bool(why)
    if failed:
        raise Unavailable(f"{failed} of the routes did not take the test alert")


async def _tested(name: str, receiver: Receiver, service: str) -> str:
    """Why it was not sent; empty when it was."""
    from fairlead.control.notify.sending import NotSent, Sender

    try:
        for message in _messages(name, service):
            await Sender().send(receiver, message)
    except NotSent as error:
        return str(error)
    return ""


def _messages(name: str, service: str) -> list[Message]:
    import time

    from fairlead.monitoring.alerts import observe
    from fairlead.monitoring.burning import Severity
    from fairlead.monitoring.conditions import Condition, labels_of
    from fairlead.monitoring.telling import Route, messages

    now, monitor = time.time(), "test"
    condition = Condition(
        labels=labels_of(monitor=monitor, service=service),
        severity=Severity.INFO,
        summary=f"{service}: this is a test of the route {name}; nothing is wrong",
        keep_s=0.0,
    )
    route = Route(f"{service}/{name}", wait_s=0.0, interval_s=0.0)
    alerts = observe({}, [condition], {(monitor, service)}, now)
    (begin,) = messages([route], alerts.values(), {}, now)
    alerts = observe(alerts, [], {(monitor, service)}, now + 1.0)
    (end,) = messages([route], alerts.values(), {begin.key: begin.told}, now + 1.0)
    return [begin, end]
