"""`fairlead init` and `fairlead schema`: the manifest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.options import MANIFEST_DEFAULT, ManifestOption, console
from fairlead.domain.errors import Conflict, InvalidInput, StorageFailed


def register(app: typer.Typer) -> None:
    app.command("init")(init)
    app.command("schema")(schema)


def init(
    file: ManifestOption = MANIFEST_DEFAULT,
    service: Annotated[
        str | None, typer.Option(help="Name of the service; the folder's name if not given.")
    ] = None,
) -> None:
    """Write a commented fairlead.yaml to start from."""
    from fairlead.manifest import starting_point

    name = service or re.sub(r"[^a-z0-9-]+", "-", Path.cwd().name.lower()).strip("-") or "service"
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", name):
        raise InvalidInput(f"{name!r} is not a service name", hint="letters, digits, - and .")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(starting_point(name))
    except FileExistsError:
        raise Conflict(
            f"{file} is there already; it was left as it is", hint="name another one with --file"
        ) from None
    except OSError as error:
        raise StorageFailed(f"{file}: {os.strerror(error.errno or 0)}") from None
    console.print(f"wrote {file}; edit it, then: fairlead up, fairlead ship")


def schema(
    gateway: Annotated[
        bool, typer.Option("--gateway", help="That of a gateway file instead.")
    ] = False,
) -> None:
    """Print the manifest's JSON Schema, for editors."""
    from fairlead.manifest import manifest_schema
    from fairlead.manifest.gateway_file import gateway_file_schema

    document = gateway_file_schema() if gateway else manifest_schema()
    typer.echo(json.dumps(document, indent=2))
