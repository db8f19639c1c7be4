"""Rollouts of equal and of bad releases on a real installation, one after another.

    make bench-live-rollouts ARGS="--equal 200 --bad 5"

Starts `fairlead up` and several services. Users ask in sessions, through the gateway, and say of
each answer whether it was right; the model server answers as the example's releases did
(`support.recorded_engine`). Releases that are the champion's equal may be rolled back by chance
alone, bad ones have to be, and no request may be lost. The same judge is simulated beside, with the
rates that were seen. The report goes to benchmarks/results/live-rollouts.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import live_report  # noqa: E402
from benchmarks.gateway.processes import Bystanders  # noqa: E402
from benchmarks.live_simulation import Simulated, World, simulate  # noqa: E402

from fairlead.cli.exporting import metrics_file  # noqa: E402
from fairlead.domain.errors import FairleadError  # noqa: E402
from fairlead.rollout.export import Recorded  # noqa: E402
from fairlead.rollout.plan import Plan  # noqa: E402
from support.installation import Installation, running  # noqa: E402
from support.live_rollouts import BAD, EQUAL, MODELS, Ended, Result, roll_out, spec  # noqa: E402

RESULTS = Path(__file__).parent / "results"
SIMULATED = {EQUAL: 200}
SIMULATED_BAD = 40


def main() -> int:
    """Roll out, print the report and keep it; 1 when something was not as it has to be."""
    given = _arguments()
    bystanders = Bystanders(range(os.cpu_count() or 1))
    models = [model for model in BAD for _ in range(given.bad)] + [EQUAL] * given.equal
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-live-") as folder,
        running(Path(folder) / "state") as installation,
    ):
        installation.make_key()
        plan = spec(installation, "bank", EQUAL, "plan", 1).plan
        result = asyncio.run(
            roll_out(
                installation,
                models,
                services=given.services,
                rate=given.rate,
                seconds=60.0 * given.minutes,
                on_end=_Telling(),
            )
        )
        if given.evidence is not None:
            _keep_evidence(installation, result, given.evidence)
    others = bystanders.share
    world = _world(result)
    simulated = _simulate(plan, world, given.simulated)
    text = live_report.markdown(result, plan, world, simulated, _command(given), others)
    sys.stdout.write(text)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "live-rollouts.md").write_text(text, encoding="utf-8")
    return 1 if live_report.problems(result, plan, simulated) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--equal", type=int, default=200, help="rollouts of an equal release")
    parser.add_argument("--bad", type=int, default=5, help="rollouts of each kind of bad release")
    parser.add_argument("--services", type=int, default=12, help="that roll out at the same time")
    parser.add_argument(
        "--rate", type=float, default=10.0, help="sessions a second of each service"
    )
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="no rollout begins after so long"
    )
    parser.add_argument(
        "--simulated", type=float, default=1.0, help="as many simulated rollouts, times so much"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the report")
    parser.add_argument(
        "--evidence", type=Path, help="folder for the evidence of rollouts that ended wrongly"
    )
    return parser.parse_args()


class _Telling:
    """Says how each rollout ended."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._ended = 0

    def __call__(self, ended: Ended) -> None:
        self._ended += 1
        print(
            f"{self._ended:4} {time.monotonic() - self._begun:6.0f} s  {ended.model:9}"
            f"{ended.view.outcome:12} {ended.of_canary('requests'):5} canary requests, "
            f"{ended.seconds:.0f} s",
            flush=True,
        )
        if not ended.is_right:
            print(f"     {ended.view.reason}", flush=True)


def _keep_evidence(installation: Installation, result: Result, folder: Path) -> None:
    """Keep what those were judged by that ended wrongly, for `fairlead rollout replay`."""
    folder.mkdir(parents=True, exist_ok=True)
    for rollout in [ended.view.id for ended in result.rollouts if not ended.is_right]:
        try:
            found = installation.control.get(Recorded, "rollouts", rollout, "observations")
        except FairleadError as error:
            print(f"no evidence of {rollout}: {error}", file=sys.stderr)
            continue
        lines = b"".join(msgspec.json.encode(one) + b"\n" for one in found.observations)
        (folder / f"{rollout}.jsonl").write_bytes(lines)
        (folder / f"{rollout}.metrics.yaml").write_bytes(metrics_file(found))


def _world(result: Result) -> World:
    """The rates that were seen."""
    users = result.users
    counts = [
        ended.view.verdict.numbers["champion"]
        for ended in result.rollouts
        if ended.view.verdict is not None
    ]
    requests = sum(count["requests"] for count in counts)
    silent = sum(count["silent"] for count in counts) / max(1, requests)
    each = users.sessions / result.seconds / len(users.services)
    return World(each, users.durations_s, silent)


def _simulate(plan: Plan, world: World, times: float) -> dict[str, list[Simulated]]:
    return {
        model: [
            simulate(plan, model, world, f"{model} {number}")
            for number in range(max(1, round(times * SIMULATED.get(model, SIMULATED_BAD))))
        ]
        for model in MODELS
    }


def _command(given: argparse.Namespace) -> str:
    named = ("equal", "bad", "services", "rate", "minutes", "simulated")
    options = " ".join(f"--{name} {getattr(given, name):g}" for name in named)
    return f'make bench-live-rollouts ARGS="{options}"'


if __name__ == "__main__":
    sys.exit(main())
