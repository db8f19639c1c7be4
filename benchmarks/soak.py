"""An installation under load for long, while replicas are killed and the gateway is restarted.

    make soak ARGS="--minutes 60"

Starts `fairlead up` with two workers and the example's release a, finds by a short calibration how
many requests a second it can do, and sends half of that, half of it streamed. A replica is killed
every 20 seconds and the gateway restarted every 2 minutes. No request may fail, each has exactly
one record, and memory and descriptors are flat: the last third is compared with the second. The
report goes to benchmarks/results/soak.md.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.installation import BANKING, running  # noqa: E402
from support.soak import Plan, Soak, run_soak  # noqa: E402

RESULTS = Path(__file__).parent / "results"
ROWS = 12


def main() -> int:
    """Soak, print the report and keep it; 1 when something was not as it has to be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--restart-every", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--load", type=float, default=0.5, help="share of saturation")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.md")
    parser.add_argument(
        "--cut-streams-fail",
        action="store_true",
        help="a stream that ends with an error because its replica was killed counts as failed",
    )
    given = parser.parse_args()
    plan = Plan(
        seconds=60.0 * given.minutes,
        kill_every_s=given.kill_every,
        restart_every_s=given.restart_every,
        load=given.load,
        cut_streams_fail=given.cut_streams_fail,
    )
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-soak-") as folder,
        running(Path(folder) / "state") as installation,
    ):
        installation.make_key()
        soak = asyncio.run(run_soak(installation, questions(), plan))
    text = "\n".join(report(soak)) + "\n"
    sys.stdout.write(text)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    return 1 if soak.problems() else 0


def questions() -> list[str]:
    """What customers ask."""
    with (BANKING / "traffic.csv").open(newline="", encoding="utf-8") as rows:
        return [row["text"] for row in csv.DictReader(rows)]


def report(soak: Soak) -> Iterator[str]:
    """The report as Markdown."""
    plan = soak.plan
    yield "# Soak\n"
    yield f'`make soak ARGS="--minutes {plan.seconds / 60:g}"`, on {os.cpu_count()} cores.\n'
    problems = soak.problems()
    yield "**Passed.**\n" if not problems else "**Not passed:**\n"
    yield from (f"- {problem}" for problem in problems)
    if problems:
        yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| minutes | {plan.seconds / 60:g} |"
    yield f"| saturation, by calibration | {soak.saturation:.0f} requests/s |"
    yield f"| load | {soak.rate:.0f} requests/s, {plan.streamed:.0%} streamed |"
    yield f"| requests | {soak.answered:,} ({soak.streams:,} streams) |"
    yield f"| failed | {len(soak.failed)} |"
    counted = "counted as failed" if plan.cut_streams_fail else "not counted as failed"
    yield f"| streams that ended with an error event at a kill | {len(soak.cut)} ({counted}) |"
    yield f"| not sent, as too many were open | {soak.held_back:,} |"
    yield f"| answers without a record; with two | {soak.unrecorded}; {soak.recorded_twice} |"
    yield f"| replicas killed | {soak.kills} |"
    yield f"| restarts of the gateway | {soak.restarts}, {len(soak.restarts_failed)} failed |"
    if len(soak.durations_ms) > 1:
        cuts = statistics.quantiles(soak.durations_ms, n=100)
        yield f"| latency p50, p99 | {cuts[49]:.0f} ms, {cuts[98]:.0f} ms |"
    yield "\nThe largest process of each kind; medians of each third of the time:\n"
    yield "| process | memory, 2nd third | last third | peak | descriptors, 2nd | last | peak |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for role in soak.roles():
        own = [sample for sample in soak.samples if sample.role == role]
        memory = [soak.third(role, n, lambda s: s.rss_kb) for n in (1, 2)]
        memory.append(max(s.rss_kb for s in own))
        fds = [soak.third(role, n, lambda s: s.fds) for n in (1, 2)]
        fds.append(max(s.fds for s in own))
        cells = [f"{kb / 1024:.0f} MB" for kb in memory] + [f"{count:.0f}" for count in fds]
        yield f"| {role} | {' | '.join(cells)} |"
    yield from _over_time(soak)


def _over_time(soak: Soak) -> Iterator[str]:
    roles = soak.roles()
    yield "\nOver time (memory in MB / descriptors / processes):\n"
    yield f"| minute | {' | '.join(roles)} |"
    yield f"| --: |{' --: |' * len(roles)}"
    moments = sorted({sample.at for sample in soak.samples})
    for at in moments[:: max(1, len(moments) // ROWS)]:
        here = {s.role: s for s in soak.samples if s.at == at}
        cells = [
            f"{here[r].rss_kb / 1024:.0f} / {here[r].fds} / {here[r].processes}"
            if r in here
            else ""
            for r in roles
        ]
        yield f"| {at / 60:.1f} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
