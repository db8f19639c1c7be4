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
from fairlead.control.limits.key_views import KeyRequest, KeyView, LimitsRequest, NewKey, TenantView
from fairlead.domain.quota import Quota

app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)


Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Whose limits count too; empty for nobody's.")
]
RequestsPerMinute = Annotated[
    int | None,
    typer.Option("--requests-per-minute", help="Requests in a minute; 0 for no such limit."),
]
RequestsPerDay = Annotated[
    int | None, typer.Option("--requests-per-day", help="The same in a UTC day.")
]
RequestsPerMonth = Annotated[
    int | None, typer.Option("--requests-per-month", help="The same in a UTC month.")
]
TokensPerMinute = Annotated[
    int | None,
    typer.Option("--tokens-per-minute", help="Tokens of prompts and answers in a minute."),
]
TokensPerDay = Annotated[
    int | None, typer.Option("--tokens-per-day", help="The same in a UTC day.")
]
TokensPerMonth = Annotated[
    int | None, typer.Option("--tokens-per-month", help="The same in a UTC month.")
]
UsdPerMinute = Annotated[
    float | None,
    typer.Option("--usd-per-minute", help="Cost in a minute, by the releases' prices."),
]
UsdPerDay = Annotated[float | None, typer.Option("--usd-per-day", help="Cost in a UTC day.")]
UsdPerMonth = Annotated[float | None, typer.Option("--usd-per-month", help="Cost in a UTC month.")]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    priority: Annotated[
        int,
        typer.Option(
            help="Where requests have to wait, those of a higher one go first.", min=-100, max=100
        ),
    ] = 0,
    tenant: Tenant = None,
    requests_per_minute: RequestsPerMinute = None,
    requests_per_day: RequestsPerDay = None,
    requests_per_month: RequestsPerMonth = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    tokens_per_month: TokensPerMonth = None,
    usd_per_minute: UsdPerMinute = None,
    usd_per_day: UsdPerDay = None,
    usd_per_month: UsdPerMonth = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once; only its digest is kept."""
    limits = _limits(context)
    made = client(state).post(NewKey, "keys", body=KeyRequest(name, tenant, limits, priority))
    if as_json:
        print_json(made)
        return
    say((made.key, "bold"), whole=True)
    say((f"id {made.id}; this is the only time the key is shown", "dim"))


@app.command("limit")
def limit(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Id or name of the key.")],
    tenant: Tenant = None,
    requests_per_minute: RequestsPerMinute = None,
    requests_per_day: RequestsPerDay = None,
    requests_per_month: RequestsPerMonth = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    tokens_per_month: TokensPerMonth = None,
    usd_per_minute: UsdPerMinute = None,
    usd_per_day: UsdPerDay = None,
    usd_per_month: UsdPerMonth = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Change what may be used of a key; limits that are not named stay, 0 takes one away."""
    limits = _limits(context)
    now = client(state).put(KeyView, "keys", key, "limits", body=LimitsRequest(limits, tenant))
    if as_json:
        print_json(now)
        return
    of = f" of {now.tenant}" if now.tenant else ""
    say(f"{now.name} ({now.id}){of}: {_words(now.limits) or 'no limits'}")


@app.command("tenant")
def tenant(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the tenant.")],
    requests_per_minute: RequestsPerMinute = None,
    requests_per_day: RequestsPerDay = None,
    requests_per_month: RequestsPerMonth = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    tokens_per_month: TokensPerMonth = None,
    usd_per_minute: UsdPerMinute = None,
    usd_per_day: UsdPerDay = None,
    usd_per_month: UsdPerMonth = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Change what all keys of a tenant may use together, or show it; 0 takes a limit away."""
    limits = _limits(context)
    now = client(state).put(TenantView, "tenants", name, body=limits)
    if as_json:
        print_json(now)
        return
    say(f"{now.name}: {_words(now.limits) or 'no limits'}; keys: {', '.join(now.keys) or 'none'}")


def _limits(context: typer.Context) -> Quota:
    """What the options of these names say."""
    return Quota(**{name: context.params[name] for name in Quota.__struct_fields__})


def _words(limits: Quota) -> str:
    named = {name: getattr(limits, name) for name in Quota.__struct_fields__}
    return ", ".join(
        f"{value:g} {name.replace('_', ' ')}" for name, value in named.items() if value is not None
    )


@app.command("list")
def list_keys(state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """List the keys (never the keys themselves)."""
    keys = client(state).get(list[KeyView], "keys")
    if as_json:
        print_json(keys)
        return
    shown = table("=id", "name", ">priority", "=made", "tenant", "limits")
    for key in keys:
        shown.add_row(
            key.id,
            key.name,
            str(key.priority),
            ago(key.created_at),
            key.tenant or "",
            _words(key.limits),
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
