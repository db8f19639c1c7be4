"""`fairlead bias score` and `scores`: BBQ and CrowS-Pairs, tracked per release."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli.api import ControlClient
from fairlead.cli.benchmark_files import bbq_files, read
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
from fairlead.cli.release import registry_of
from fairlead.control.bias.scoring_model import Differences, ScoreRequest, Scoring
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.domain.release import short
from fairlead.evaluation.cases import Suite
from fairlead.evaluation.stereotypes import Benchmark, Score, bbq_suite, crows_suite

ITEMS_DEFAULT = 600
POLL_S = 1.0
Service = Annotated[str, typer.Argument(help="Name of the service.")]


def register(app: typer.Typer) -> None:
    app.command("score")(score)
    app.command("scores")(scores)


def score(
    service: Service,
    bbq: Annotated[
        Path | None, typer.Option(help="Folder with BBQ's files (*.jsonl).", show_default=False)
    ] = None,
    crows: Annotated[
        Path | None,
        typer.Option(help="CrowS-Pairs' file, crows_pairs_anonymized.csv.", show_default=False),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(help="Name or digest of champion or canary; the champion if not given."),
    ] = None,
    items: Annotated[
        int, typer.Option(min=0, help="Items of each, always the same ones; 0 for all.")
    ] = ITEMS_DEFAULT,
    wait: Annotated[bool, typer.Option(help="Wait until all are asked.")] = True,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Ask a release that runs the items of published bias benchmarks, and keep its scores."""
    suites: list[tuple[Benchmark, Suite]] = []
    if bbq is not None:
        suites.append(("bbq", bbq_suite(bbq_files(bbq))))
    if crows is not None:
        suites.append(("crows", crows_suite(crows.name, read(crows))))
    if not suites:
        raise InvalidInput("say what to ask: --bbq FOLDER, --crows FILE, or both")
    control, registry = client(state), registry_of(state)
    begun = []
    for benchmark, suite in suites:
        chosen = Suite(suite.sample(items))
        digest = registry.put_blob(chosen.to_bytes(), "application/vnd.fairlead.suite.v1+json")
        asked = ScoreRequest(benchmark, digest, release)
        begun.append(control.post(Scoring, "services", service, "bias", "scores", body=asked))
    found = _awaited(control, service, begun, quiet=as_json) if wait else begun
    if as_json:
        print_json(found)
    else:
        for one in found:
            _show(one)
    failed = [one.failure for one in found if one.state == "failed"]
    if failed:
        raise Unavailable(failed[0], hint="asked again, it goes on with the items that are left")


def scores(
    service: Service,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two releases, by name or digest: the second one's scores less the first's.",
            show_default=False,
        ),
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """List the scores of a service's releases on BBQ and CrowS-Pairs, or compare two releases."""
    control = client(state)
    path = ("services", service, "bias")
    if between is not None:
        first, other = between
        found = control.get(list[Differences], *path, "differences", first=first, other=other)
        if as_json:
            print_json(found)
            return
        for one in found:
            say((one.benchmark, "bold"), f"  {short(one.other)} less {short(one.first)}")
            _print(one.scores)
        return
    kept = control.get(list[Scoring], *path, "scores")
    if as_json:
        print_json(kept)
        return
    if not kept:
        say((f"no release of {service} has scores; see `fairlead bias score`", "dim"))
    for each in kept:
        _show(each)


def _awaited(
    control: ControlClient, service: str, begun: Sequence[Scoring], *, quiet: bool
) -> list[Scoring]:
    keys, told = {one.key for one in begun}, -1
    while True:
        kept = control.get(list[Scoring], "services", service, "bias", "scores")
        found = [one for one in kept if one.key in keys]
        if len(found) == len(keys) and all(one.state != "running" for one in found):
            return found
        asked = sum(one.asked for one in found)
        if not quiet and asked != told:
            told = asked
            say((f"{asked:,} of {sum(one.of for one in found):,} items asked", "dim"))
        time.sleep(POLL_S)


def _show(one: Scoring) -> None:
    colour = {"running": "yellow", "failed": "red", "done": "green"}[one.state]
    console.print(
        Text.assemble(
            (one.benchmark, "bold"), f"  {one.name} {short(one.release)}  ", (one.state, colour),
            (f": {one.failure}" if one.failure else "", "red"),
        )
    )  # fmt: skip
    unread = f", {one.unread:,} answers choose no option" if one.unread else ""
    cost = f", {one.usd:.4f} USD" if one.usd else ""
    say((f"  {one.asked:,} of {one.of:,} items{unread}{cost}, begun {ago(one.begun_at)}", "dim"))
    if one.scores:
        _print(one.scores)


def _print(found: Sequence[Score]) -> None:
    shown = table("category", "measure", ">score", "95 %", ">items", ">templates")
    for each in found:
        form = "+.3f" if each.measure.startswith("bias") else ".3f"
        shown.add_row(
            each.category, each.measure.replace("_", ", "), f"{each.value:{form}}",
            f"{each.low:{form}} to {each.high:{form}}", f"{each.n:,}", f"{each.clusters:,}",
        )  # fmt: skip
    console.print(shown)
