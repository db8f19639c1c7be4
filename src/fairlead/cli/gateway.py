"""`fairlead gateway`: one that runs alone, on a file; and the one of this installation, anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from fairlead.cli import gateway_restart
from fairlead.cli.options import JsonOption, console, print_json, say, stderr
from fairlead.domain.api_keys import api_key_digest, new_api_key
from fairlead.domain.errors import Conflict, InvalidInput, StorageFailed
from fairlead.domain.wording import count_of

app = typer.Typer(
    help="A gateway that runs alone: no control, no observer, no registry.", no_args_is_help=True
)
gateway_restart.register(app)

CONFIG_DEFAULT = Path("gateway.yaml")
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The gateway file.", show_default=True)
]


class FreshKey(msgspec.Struct, frozen=True):
    """A key that was just made, and how the gateway file knows it."""

    key: str
    name: str
    sha256: str


@app.command("run")
def run(
    config: ConfigOption = CONFIG_DEFAULT,
    watch: Annotated[
        bool, typer.Option("--watch", help="Read the file again whenever it has changed.")
    ] = False,
) -> None:
    """Run the gateway in the foreground until Ctrl-C.

    SIGHUP reads the file again; SIGUSR2 or `fairlead gateway restart --config FILE` puts new worker
    processes in the place of the old ones, without a broken connection.
    """
    from fairlead.app.standalone.supervisor import StandaloneGateway

    gateway = StandaloneGateway(config, os.environ, _say, watches=watch)
    gateway.install_signal_handlers()
    try:
        gateway.start()
        gateway.run()
    finally:
        _say("stopping …")
        gateway.stop()
    _say("stopped")


@app.command("check")
def check(config: ConfigOption = CONFIG_DEFAULT) -> None:
    """Check a gateway file without running it, and say all that it means.

    Exit code 2 lists every mistake with its line.
    """
    from fairlead.app.standalone.describing import describe_file, warnings
    from fairlead.manifest.gateway_file import load_gateway_file

    file = load_gateway_file(config)
    say(f"{config} is valid", whole=True)
    for line in describe_file(file):
        say(line, whole=True)
    for line in warnings(file, os.environ):
        say(f"warning: {line}", to=stderr, whole=True)


@app.command("key")
def key(
    name: Annotated[str, typer.Option(help="Who will use it.")] = "default",
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once; its SHA-256 goes into the gateway file."""
    from fairlead.manifest.values import is_label

    if not is_label(name):
        raise InvalidInput(f"{name!r} cannot be a key's name", hint="letters, digits, - _ and .")
    secret = new_api_key()
    made = FreshKey(secret, name, api_key_digest(secret))
    if as_json:
        print_json(made)
        return
    say((made.key, "bold"), whole=True)
    say(("this is the only time the key is shown; in the file, under `keys:`", "dim"))
    say(f"  - {{name: {made.name}, sha256: {made.sha256}}}", whole=True)


class Lost(msgspec.Struct, frozen=True):
    """One line of the other gateway's file that was not carried over as it is."""

    file: str
    line: int
    what: str
    why: str


class ImportReport(msgspec.Struct, frozen=True):
    """What came of an import.

    Attributes:
        key: A fresh key for the clients, shown only here; None where none is asked for.
    """

    out: str
    services: int
    releases: int
    lost: list[Lost]
    key: str | None


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A LiteLLM config.yaml or a tensorzero.toml.")],
    source: Annotated[
        Literal["litellm", "tensorzero"], typer.Option("--from", help="Whose file it is.")
    ],
    out: Annotated[Path, typer.Option(help="The gateway file to write.")] = CONFIG_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Write a gateway file from another gateway's, and list what it could not carry over."""
    from fairlead.manifest.importing import import_gateway_file

    key = new_api_key()
    made = import_gateway_file(source, file, lambda: api_key_digest(key))
    try:
        with out.open("x", encoding="utf-8") as written:
            written.write(made.text)
    except FileExistsError:
        raise Conflict(
            f"{out} is there already; it was left as it is", hint="name another one with --out"
        ) from None
    except OSError as error:
        raise StorageFailed(f"{out}: {os.strerror(error.errno or 0)}") from None
    report = ImportReport(
        out=str(out),
        services=len(made.file.services),
        releases=sum(len(service.releases) for service in made.file.services),
        lost=[Lost(str(file), *loss) for loss in made.losses],
        key=key if made.wants_key else None,
    )
    if as_json:
        print_json(report)
        return
    for lost in report.lost:
        _say(f"{lost.file}:{lost.line}: {lost.what}: {lost.why}")
    left = len(report.lost)
    services, releases = count_of(report.services, "service"), count_of(report.releases, "release")
    were = "was not carried over as it is" if left == 1 else "were not carried over as they are"
    _say(f"wrote {out}: {services}, {releases}; {count_of(left, 'line')} {were}")
    if report.key is not None:
        _say(f"a fresh key for clients, shown only now: {report.key}")
    _say(f"next: fairlead gateway check --config {out}")


def _say(line: str) -> None:
    say(line, whole=True)
    # Into a file or a pipe, too, this must be there while the gateway goes on.
    console.file.flush()
