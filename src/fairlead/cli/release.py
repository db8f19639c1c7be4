"""`fairlead release`: the registry. Works without a running `fairlead up`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from fairlead.app.state import StatePaths
from fairlead.cli.options import (
    MANIFEST_DEFAULT,
    STATE_DEFAULT,
    JsonOption,
    ManifestOption,
    ServiceOption,
    StateOption,
    ago,
    console,
    print_json,
    say,
    size,
    table,
)
from fairlead.domain.errors import Damaged, NotFound
from fairlead.domain.release import RemoteModel, short
from fairlead.registry import Registry

app = typer.Typer(help="Releases: build, list, show, compare, verify.", no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="Digest, the beginning of one, or a name.")]


def registry_of(state: Path) -> Registry:
    """The registry of a state folder, for building into it; made when there is none yet."""
    paths = StatePaths(state)
    paths.create()
    return Registry(paths.registry)


def registry_at(state: Path) -> Registry:
    """The registry of a state folder, for looking; raises NotFound and makes nothing."""
    paths = StatePaths(state)
    if not paths.registry.is_dir():
        raise NotFound(
            f"there is no registry in {paths.root}",
            hint="`fairlead release build` and `fairlead ship` make one; name its folder with "
            "--state",
        )
    return Registry(paths.registry)


@app.command("build")
def build(
    file: ManifestOption = MANIFEST_DEFAULT,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Build the manifest's release into the registry and print its digest."""
    from fairlead.cli.shipping import build_release
    from fairlead.manifest import load_manifest

    entry = build_release(registry_of(state), load_manifest(file))
    if as_json:
        print_json(entry)
        return
    console.print(f"{entry.digest}  {entry.service}/{entry.name}  {size(entry.size)}")


@app.command("list")
def list_releases(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """List the releases in the registry."""
    entries = registry_at(state).list(service)
    if as_json:
        print_json(entries)
        return
    shown = table(
        "=release", "service", "name", "model", ">size", "=built", gives_way=("size", "service")
    )
    for entry in sorted(entries, key=lambda e: -e.created_at):
        model = entry.release.model
        what = model.model if isinstance(model, RemoteModel) else model.files[0].name
        shown.add_row(
            short(entry.digest), entry.service, entry.name, what, size(entry.size),
            ago(entry.created_at),
        )  # fmt: skip
    console.print(shown)


@app.command("show")
def show(
    release: Reference, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show everything that a release consists of."""
    registry = registry_at(state)
    entry = registry.get(registry.resolve(release))
    if as_json:
        print_json(entry)
        return
    say((entry.digest, "bold"))
    console.print(
        f"{entry.service}/{entry.name}  {size(entry.size)}  built {ago(entry.created_at)}"
    )
    console.print_json(data=msgspec.to_builtins(entry.release))


@app.command("diff")
def diff(
    before: Reference,
    after: Reference,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two releases."""
    registry = registry_at(state)
    differences = registry.diff(registry.resolve(before), registry.resolve(after))
    if as_json:
        print_json(differences)
        return
    if not differences:
        console.print("the same release")
    shown = table("field", "before", "after")
    for each in differences:
        shown.add_row(
            each.path, Text(str(each.before), style="red"), Text(str(each.after), style="green")
        )
    if differences:
        console.print(shown)


@app.command("verify")
def verify(
    release: Annotated[str | None, typer.Argument(help="Only this release.")] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Read every stored byte again and compare it with its digest."""
    registry = registry_at(state)
    problems = registry.verify(registry.resolve(release) if release else None)
    if as_json:
        print_json(problems)
    elif not problems:
        say(("everything matches its digest", "green"))
    if problems:
        raise Damaged(
            "; ".join(str(problem) for problem in problems),
            hint="build the release again from its sources",
        )


@app.command("gc")
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than_days: Annotated[
        float,
        typer.Option(min=0, help="Keep younger ones, and always those of the last ten minutes."),
    ] = 7.0,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Remove releases that no service uses or can go back to, and blobs without a release."""
    from fairlead.cli.shipping import releases_in_use

    registry = registry_at(state)
    used = releases_in_use(StatePaths(state))
    young = time.time() - older_than_days * 86400
    keep = used.releases | {t.digest for t in registry.tags() if t.created_at >= young}
    report = registry.gc(keep, dry_run=dry_run, extra_blobs=used.blobs)
    if as_json:
        print_json(report)
        return
    verb = "would free" if dry_run else "freed"
    console.print(f"{verb} {size(report.bytes_freed)}: {len(report.releases)} releases, "
                  f"{len(report.blobs)} blobs")  # fmt: skip
