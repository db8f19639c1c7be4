"""`fairlead keys`: the API keys that the gateway accepts."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    say,
    table,
)
from fairlead.control.views import KeyRequest, KeyView, NewKey

app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    priority: Annotated[
        int,
        typer.Option(
            help="Where requests have to wait, those of a higher one go first.", min=-100, max=100
        ),
    ] = 0,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once; only its digest is kept."""
    made = client(state).post(NewKey, "keys", body=KeyRequest(name, priority))
    if as_json:
        print_json(made)
        return
    say((made.key, "bold"), whole=True)
    say((f"id {made.id}; this is the only time the key is shown", "dim"))


@app.command("list")
def list_keys(state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """List the keys (never the keys themselves)."""
    keys = client(state).get(list[KeyView], "keys")
    if as_json:
        print_json(keys)
        return
    shown = table("=id", "name", ">priority", "=made", "=revoked")
    for key in keys:
        shown.add_row(
            key.id,
            key.name,
            str(key.priority),
            ago(key.created_at),
            ago(key.revoked_at) if key.revoked_at else "",
        )
    console.print(shown)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name of the key.")],
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Stop accepting a key, on all gateway workers at once."""
    gone = client(state).delete(KeyView, "keys", key)
    console.print(f"revoked {gone.name} ({gone.id})")
