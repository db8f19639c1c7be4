"""An installation under load for long, while replicas are killed and the gateway is restarted.

    make soak ARGS="--minutes 60"

Starts `fairlead up` with two workers and two llama.cpp replicas of a small model whose answers are
known beforehand, tries higher and higher rates until more requests bring no more answers, and sends
half of that, half of it streamed. A replica is killed (SIGKILL) every 20 seconds and the gateway
restarted every 2 minutes. No request may fail, a stream that a kill has cut neither: every answer
is compared with the only right one. Each request has exactly one record, and memory and descriptors
do not grow: of the processes, and of each gateway worker within its life. With `--restart-every 0`
the gateway's workers stay the same, and what they hold is watched all the time. With
PYTHONPATH=$PWD/build/compiled (after `make compiled`) the gateway's request path is compiled. The
report goes to benchmarks/results/soak.md, its picture beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import soak_picture, soak_report  # noqa: E402
from benchmarks.gateway.processes import Bystanders  # noqa: E402

from support.installation import BANKING, Installation, running  # noqa: E402
from support.soak import Plan, Soak, run_soak  # noqa: E402

RESULTS = Path(__file__).parent / "results"
SAMPLE_EVERY_S = 1.0
"""So often that there are enough samples within the life of one gateway worker."""


def main() -> int:
    """Soak, print the report and keep it; 1 when something was not as it has to be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--kill-every", type=float, default=20.0, metavar="SECONDS", help="0 for never"
    )
    parser.add_argument(
        "--restart-every", type=float, default=120.0, metavar="SECONDS", help="0 for never"
    )
    parser.add_argument("--load", type=float, default=0.5, help="share of saturation")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--logs", type=Path, help="folder to keep the installation's logs in")
    given = parser.parse_args()
    plan = Plan(
        seconds=60.0 * given.minutes,
        kill_every_s=given.kill_every,
        restart_every_s=given.restart_every,
        load=given.load,
        sample_every_s=SAMPLE_EVERY_S,
    )
    bystanders = Bystanders(range(os.cpu_count() or 1))
    soak, compiled = _soaked(plan, given.logs)
    text = soak_report.markdown(soak, _command(), bystanders.share, compiled=compiled)
    sys.stdout.write(text)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "soak.md").write_text(text, encoding="utf-8")
    (given.results / "soak.svg").write_text(soak_picture.svg(soak), encoding="utf-8")
    return 1 if soak.problems() else 0


def _soaked(plan: Plan, logs: Path | None) -> tuple[Soak, bool]:
    """What happened, and whether the gateway's request path was compiled."""
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-soak-") as folder,
        running(Path(folder) / "state") as installation,
    ):
        installation.make_key()
        try:
            return asyncio.run(run_soak(installation, questions(), plan)), _compiled(installation)
        finally:
            if logs is not None:
                shutil.copytree(installation.paths.logs, logs, dirs_exist_ok=True)


def _compiled(installation: Installation) -> bool:
    """Whether all gateway workers run it so."""
    workers = installation.pids("gateway_process")
    maps = [Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in workers]
    return bool(maps) and all("__mypyc" in each for each in maps)


def _command() -> str:
    """As the report has it: without folders, which are of this machine."""
    words = sys.argv[1:]
    for option in ("--results", "--logs"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    given = " ".join(words)
    return f'make soak ARGS="{given}"' if given else "make soak"


def questions() -> list[str]:
    """What customers ask."""
    with (BANKING / "traffic.csv").open(newline="", encoding="utf-8") as rows:
        return [row["text"] for row in csv.DictReader(rows)]


if __name__ == "__main__":
    sys.exit(main())
