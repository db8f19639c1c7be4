"""The command tree."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead import __version__
from fairlead.cli import (
    alerts,
    bias,
    demo_command,
    doctor,
    drill,
    evaluation,
    feedback,
    gateway,
    incidents,
    judge,
    keys,
    lifecycle,
    manifest,
    monitor,
    probes,
    records,
    release,
    rollout,
    samples,
    ship,
    silences,
    status,
    suite,
    telemetry,
)

app = typer.Typer(
    name="fairlead",
    help="Continuous delivery for LLMs: gates, canaries judged on live traffic, rollback.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fairlead {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Continuous delivery for LLMs."""


for _module in (
    manifest,
    lifecycle,
    ship,
    status,
    alerts,
    incidents,
    silences,
    probes,
    drill,
    evaluation,
    feedback,
    records,
    doctor,
    demo_command,
):
    _module.register(app)
app.command("rollback")(rollout.rollback)
app.add_typer(release.app, name="release")
app.add_typer(rollout.app, name="rollout")
app.add_typer(keys.app, name="keys")
app.add_typer(samples.app, name="samples")
app.add_typer(judge.app, name="judge")
app.add_typer(bias.app, name="bias")
app.add_typer(telemetry.app, name="telemetry")
app.add_typer(gateway.app, name="gateway")
app.add_typer(monitor.app, name="monitor")
app.add_typer(suite.app, name="suite")
