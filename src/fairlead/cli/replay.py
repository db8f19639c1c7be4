"""`fairlead rollout replay`: judge recorded observations, without any installation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fairlead.cli.options import JsonOption, console, number, print_json, say, table
from fairlead.domain.errors import InvalidInput, StorageFailed
from fairlead.manifest.metrics import MetricsFile, load_metrics
from fairlead.rollout.metrics import Metric, MetricKind, Missing
from fairlead.rollout.recording import Recording, ReplayedObservation
from fairlead.rollout.replay import ReplayResult, replay
from fairlead.rollout.replayed_suites import (
    ReplayedPair,
    ReplayedSuite,
    SuiteNumbers,
    SuiteRecording,
)

LINE_BYTES_MAX = 100_000
_SHOWN_POINTS = 20

FileArgument = Annotated[Path, typer.Argument(help="Observations, one JSON object a line.")]
MetricsOption = Annotated[
    Path, typer.Option("--metrics", help="The metrics, and how they are judged (YAML).")
]
SettleOption = Annotated[
    float | None,
    typer.Option(
        "--settle",
        help="Seconds after a unit's enrolment within which its outcomes count; later ones are "
        "missing. All count if not given.",
        min=0.0,
    ),
]


def register(app: typer.Typer) -> None:
    app.command("replay")(replay_file)


def replay_file(
    file: FileArgument,
    metrics: MetricsOption = Path("metrics.yaml"),
    settle: SettleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge recorded observations with the code that judges live traffic."""
    declared, recording, suites = read_recording(
        file, metrics, math.inf if settle is None else settle
    )
    result = replay(
        recording,
        alpha=declared.alpha,
        beta=declared.beta,
        judged_at=declared.judged_at,
        suites=suites,
    )
    if as_json:
        print_json(result)
        return
    _show(result)


def read_recording(
    file: Path, metrics: Path, settle_s: float = math.inf
) -> tuple[MetricsFile, Recording, SuiteRecording]:
    """The metrics, and what was observed of units and of suites; raises InvalidInput."""
    declared = load_metrics(metrics)
    recording, suites = recording_of(declared, settle_s), suites_of(declared)
    for line, text in _lines(file):
        try:
            told = _told(text)
            if isinstance(told, ReplayedPair):
                suites.add(told)
            else:
                recording.add(told)
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"{file}:{line}: {error}") from None
        except InvalidInput as error:
            raise InvalidInput(f"{file}:{line}: {error.message}", hint=error.hint) from None
    return declared, recording, suites


def recording_of(declared: MetricsFile, settle_s: float = math.inf) -> Recording:
    """An empty recording by the metrics of a file."""
    return Recording(
        [
            Metric(
                name=entry.name,
                kind=MetricKind(entry.kind),
                bad=entry.bad,
                margin=entry.margin,
                tolerance=entry.tolerance,
                weight=entry.weight,
                budget=entry.budget,
                expected=entry.expected,
                expected_units=entry.expected_units,
                inverse=entry.inverse,
                promotes=entry.promotes,
                missing=Missing(entry.missing),
            )
            for entry in declared.metrics
        ],
        settle_s,
        _strata_of(declared),
    )


def _strata_of(declared: MetricsFile) -> tuple[str, ...] | None:
    """Its strata of risk; None of an export that does not say whether there were any.

    What somebody wrote by hand and names none has none.
    """
    is_export = declared.judged_at is not None
    return () if declared.strata is None and not is_export else declared.strata


def suites_of(declared: MetricsFile) -> SuiteRecording:
    """An empty recording of the suites of a file."""
    return SuiteRecording(
        [
            ReplayedSuite(one.name, one.margin, one.tolerance, one.promotes, one.incomplete)
            for one in declared.suites
        ]
    )


def _told(text: bytes) -> ReplayedObservation | ReplayedPair:
    """A line: of a case of a suite if it names a suite, else of a unit."""
    try:
        return msgspec.json.decode(text, type=ReplayedObservation)
    except msgspec.ValidationError:
        found = msgspec.json.decode(text)
        if isinstance(found, dict) and "suite" in found:
            return msgspec.convert(found, ReplayedPair)
        raise


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line that is not blank."""
    try:
        with file.open("rb") as opened:
            line = 0
            while text := opened.readline(LINE_BYTES_MAX + 1):
                line += 1
                if len(text) > LINE_BYTES_MAX:
                    raise InvalidInput(f"{file}:{line}: longer than {LINE_BYTES_MAX:,} bytes")
                if text.strip():
                    yield line, text
    except FileNotFoundError:
        raise InvalidInput(f"{file}: there is no such file") from None
    except OSError as error:
        raise StorageFailed(f"{file}: cannot be read: {error.strerror}") from None


def _show(result: ReplayResult) -> None:
    say((result.verdict, "bold"), f" at unit {result.at:,}: {result.reason}")
    if result.duplicates or result.late:
        console.print(
            f"not counted: {result.duplicates:,} repeated and {result.late:,} late outcomes"
        )
    for assumed in result.assumed:
        say(("assumed: ", "yellow"), assumed)
    shown = table("=metric", "canary", "champion", "missing", "E worse", "E not worse")
    for metric in result.metrics:
        shown.add_row(
            metric.name, number(metric.canary_mean, 4), number(metric.champion_mean, 4),
            f"{metric.canary_missing + metric.champion_missing:,}",
            f"{metric.e_rollback:.3g}",
            "–" if metric.e_promote is None else f"{metric.e_promote:.3g}",
        )  # fmt: skip
    console.print(shown)
    if result.suites:
        _show_suites(result.suites)
    path = table("units", "canary", "E worse", "E not worse", "E share")
    every = max(1, math.ceil(len(result.path) / _SHOWN_POINTS))
    for point in [*result.path[every - 1 : -1 : every], *result.path[-1:]]:
        path.add_row(
            f"{point.units:,}", f"{point.canary_units:,}", f"{point.e_rollback:.3g}",
            f"{point.e_promote:.3g}", f"{point.e_sample_ratio:.3g}",
        )  # fmt: skip
    console.print(path)


def _show_suites(suites: Sequence[SuiteNumbers]) -> None:
    shown = table(
        "=suite", "pairs", "canary", "champion", "E worse", "of", "at pair", "E not worse"
    )
    for suite in suites:
        if suite.incomplete:
            shown.add_row(suite.name, *["–"] * 4, f"{suite.threshold:g}", "–", "–")
            continue
        shown.add_row(
            suite.name, f"{suite.pairs:,}", number(suite.canary_score, 4),
            number(suite.champion_score, 4), f"{suite.e_rollback:.3g}", f"{suite.threshold:g}",
            "–" if suite.at is None else f"{suite.at:,}", f"{suite.e_promote:.3g}",
        )  # fmt: skip
    console.print(shown)
