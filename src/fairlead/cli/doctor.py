"""`fairlead doctor`: says what is wrong with an installation, and what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import typer

from fairlead.app.state import StatePaths
from fairlead.cli.api import ControlClient
from fairlead.cli.options import STATE_DEFAULT, JsonOption, StateOption, print_json, say
from fairlead.cli.vectors import vectors_said
from fairlead.control.views import StatusView
from fairlead.control.watching.interface import OLD_S
from fairlead.control.watching.watch_views import MonitorView
from fairlead.domain.errors import FairleadError, NotFound

FREE_BYTES_MIN = 1 << 30
OBSERVER_LAG_S_MAX = 10.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: `ok`, or what is wrong and what to do."""

    what: str
    ok: bool
    detail: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """Check Python, engine, disk, state folder, registry and the running processes."""
    paths = StatePaths(state)
    findings = [finding for check in CHECKS for finding in check(paths)]
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mark = ("ok  ", "green") if finding.ok else ("bad ", "red")
            say(mark, f" {finding.what}: {finding.detail}")
            if finding.advice and not finding.ok:
                say((f"       {finding.advice}", "dim"))
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 5)


def _python(_paths: StatePaths) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "3.11 or newer is needed")


def _engine(_paths: StatePaths) -> Iterator[Finding]:
    try:
        import xllamacpp
    except ImportError as error:
        yield Finding("llama.cpp", False, str(error), "pip install --force-reinstall xllamacpp")
        return
    version = getattr(xllamacpp, "__version__", "installed")
    yield Finding("llama.cpp", True, f"xllamacpp {version}")


def _gateway(_paths: StatePaths) -> Iterator[Finding]:
    from fairlead.gateway import bulkhead

    is_compiled = not (bulkhead.__file__ or "").endswith(".py")
    how = "compiled" if is_compiled else "Python (docs/gateway.md says how to compile it)"
    yield Finding("gateway", True, f"its request path is {how}")


def _disk(paths: StatePaths) -> Iterator[Finding]:
    place = paths.root if paths.root.exists() else Path.cwd()
    free = shutil.disk_usage(place).free
    yield Finding(
        "disk", free >= FREE_BYTES_MIN, f"{free / 1e9:.1f} GB free at {place}",
        "below 1 GB; `fairlead release gc` frees unused releases",
    )  # fmt: skip


def _state(paths: StatePaths) -> Iterator[Finding]:
    if not paths.root.is_dir():
        yield Finding("state", False, f"{paths.root} does not exist", "`fairlead up` makes it")
        return
    mode = paths.root.stat().st_mode & 0o777
    yield Finding(
        "state", mode & 0o077 == 0, f"{paths.root} (mode {mode:o})",
        f"others can read it: chmod 700 {paths.root}",
    )  # fmt: skip


def _registry(paths: StatePaths) -> Iterator[Finding]:
    if not paths.registry.is_dir():
        return
    from fairlead.registry import Registry

    try:
        registry = Registry(paths.registry)
        problems = registry.verify(None)
        releases = len({tag.digest for tag in registry.tags()}) if not problems else 0
    except FairleadError as error:
        yield Finding("registry", False, error.message, error.hint or "")
        return
    if problems:
        yield Finding(
            "registry", False, "; ".join(str(problem) for problem in problems[:5]),
            "build the damaged releases again",
        )  # fmt: skip
    else:
        yield Finding("registry", True, f"{releases} releases, all match their digest")


def _telemetry(paths: StatePaths) -> Iterator[Finding]:
    if not paths.telemetry.is_dir():
        return
    from fairlead.telemetry.standing import standing

    try:
        found = standing(paths.telemetry)
    except NotFound:  # nothing was taken in yet
        return
    except FairleadError as error:
        yield Finding("telemetry", False, error.message, error.hint or "")
        return
    kept = f"{found.records:,} records in {found.files} files, {found.bytes / 1e6:.1f} MB"
    yield Finding(
        "telemetry", not found.damaged_files,
        kept if not found.damaged_files else f"{kept}; missing: {'; '.join(found.damaged[:5])}",
        "what a damaged file held is lost; `fairlead telemetry status --check` reads all of them",
    )  # fmt: skip


def _vectors(paths: StatePaths) -> Iterator[Finding]:
    yield from _fitted_vectors(paths.service_vectors)
    if not paths.word_vectors.exists():
        return
    from fairlead.embedding.known_words import KnownWords, WordTable

    try:
        table = WordTable.load(paths.word_vectors)
    except ValueError as error:
        yield Finding(
            "word vectors", False, f"{error}: drift goes by spelling, not by what words mean",
            "`fairlead monitor vectors` makes them anew",
        )  # fmt: skip
        return
    yield Finding("word vectors", True, f"of {len(table):,} words, {KnownWords(table).name}")


def _fitted_vectors(folder: Path) -> Iterator[Finding]:
    made = sorted(folder.glob("[!.]*/")) if folder.is_dir() else []
    for place in made:
        from fairlead.embedding.static import StaticTable

        name = f"vectors of {place.name}"
        try:
            yield Finding(name, True, f"fitted to what it is asked, {StaticTable.load(place).name}")
        except (OSError, ValueError) as error:
            yield Finding(
                name, False, f"{error}: drift of it goes by what all services have in common",
                f"`fairlead monitor vectors --service {place.name} --anew` makes them anew",
            )  # fmt: skip


def _running(paths: StatePaths) -> Iterator[Finding]:
    try:
        control = ControlClient.of(paths)
        view = control.get(StatusView, "status")
        monitors = control.get(list[MonitorView], "monitors")
    except FairleadError as error:
        yield Finding("running", False, error.message, error.hint or "")
        return
    yield Finding("running", True, f"gateway {view.gateway_url}")
    behind = [w.worker for w in view.workers if w.version != view.snapshot or w.silent_s > 5]
    yield Finding(
        "gateway workers", bool(view.workers) and not behind,
        f"{len(view.workers)} on snapshot {view.snapshot}"
        + (f", behind or silent: {behind}" if behind else ""),
        f"see {paths.logs}/gateway-*.log",
    )  # fmt: skip
    yield Finding(
        "observer", view.observer_lag_s < OBSERVER_LAG_S_MAX,
        f"{view.observer_lag_s:.1f} s behind the gateway", f"see {paths.logs}/observer.log",
    )  # fmt: skip
    yield Finding(
        "watching", view.watching_age_s < OLD_S and not view.watching_trouble,
        f"looked at everything {view.watching_age_s:.1f} s ago"
        + (f"; the last look failed: {view.watching_trouble}" if view.watching_trouble else ""),
        f"see {paths.logs}/control.log; meanwhile nothing is watched, and one page says so",
    )  # fmt: skip
    blind = [one for one in monitors if one.trouble]
    yield Finding(
        "monitors", not blind,
        f"{len(monitors)} watch"
        + "".join(f"; {one.monitor} of {one.service}: {one.trouble}" for one in blind[:5]),
        "`fairlead monitor list`; one that cannot go on may learn anew: `fairlead monitor accept`",
    )  # fmt: skip
    for line in vectors_said(monitors, paths):
        yield Finding("drift", True, line)
    for service in view.services:
        if service.trouble:
            yield Finding(f"service {service.name}", False, service.trouble)
    for replica in view.replicas:
        if replica.state not in ("ready", "starting", "surplus", "stopping"):
            yield Finding(
                f"replica {replica.id}", False, f"{replica.state}: {replica.detail[-300:]}",
                f"see {paths.replicas / replica.id / 'output.log'}",
            )  # fmt: skip


CHECKS: tuple[Callable[[StatePaths], Iterator[Finding]], ...] = (
    _python, _engine, _gateway, _disk, _state, _registry, _telemetry, _vectors, _running,
)  # fmt: skip
