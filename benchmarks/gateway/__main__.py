"""fairlead's gateway beside its peers, interleaved in the same rounds.

    python -m benchmarks.gateway [--rounds N] [--seconds N] [--only PART ...] [--peers NAME ...]

Each proxy is kept on one core; load and upstream share the other. The tables go to
benchmarks/results/gateway.md, the picture beside them. `--micro` times the functions of the request
path without any socket instead, into benchmarks/results/gateway-micro.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.gateway import latency, micro, plain, streams, workers
from benchmarks.gateway.environments import Environments, require_system_tools
from benchmarks.gateway.peers import COMPILED, FAIRLEAD, PEERS
from benchmarks.gateway.picture import svg
from benchmarks.gateway.plan import PARTS, Plan
from benchmarks.gateway.processes import ROOT, BenchmarkFailed, Bystanders, two_cores
from benchmarks.gateway.report import markdown

RESULTS = Path(__file__).parents[1] / "results"
COMPILED_FOLDER = ROOT / "build" / "compiled"
"""Where `make compiled` puts fairlead with its request path compiled."""
_MEASURES = {
    "plain": plain.measure,
    "latency": latency.measure,
    "streams": streams.measure,
    "workers": workers.measure,
}


def main() -> None:
    """Measure, print the tables and keep them."""
    options = _parser().parse_args()
    if options.micro:
        micro.write(options.results)
        return
    try:
        _run(options, _shown(sys.argv[1:]))
    except BenchmarkFailed as error:
        raise SystemExit(f"bench-gateway: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--rate", type=int, default=1000, help="requests/s of the latency part")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--events", type=int, default=50, help="per second and stream")
    parser.add_argument(
        "--held", type=_share, default=0.75, help="of its core, taken from a proxy at saturation"
    )
    parser.add_argument("--micro", action="store_true", help="functions of the request path only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0.0 < share < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return share


def _shown(arguments: list[str]) -> list[str]:
    """The arguments as the results name them: without the folder, which is of this machine."""
    if "--results" in arguments:
        at = arguments.index("--results")
        arguments = arguments[:at] + arguments[at + 2 :]
    return arguments


def _run(options: argparse.Namespace, given: list[str]) -> None:
    require_system_tools()
    _raise_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that what was started is ended.
    compiled = _compiled()
    environments = Environments(compiled)
    ours = (FAIRLEAD,) if compiled is None else (FAIRLEAD, COMPILED)
    plan = Plan(
        parts=[part for part in PARTS if part in options.only],
        proxies=(*ours, *(peer for peer in PEERS if peer in options.peers)),
        rounds=options.rounds,
        seconds=options.seconds,
        rate=options.rate,
        streams=options.streams,
        events_per_s=options.events,
        held_share=options.held,
        cores=two_cores(),
        environments=environments,
    )
    for peer in options.peers:
        environments.prepare(peer)
    os.sched_setaffinity(0, {plan.cores.load})
    bystanders = Bystanders((plan.cores.proxy, plan.cores.load))
    measured = {}
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        for part in plan.parts:
            (Path(folder) / part).mkdir()
            measured[part] = _MEASURES[part](plan, Path(folder) / part)
    command = " ".join(["make bench-gateway", *([f'ARGS="{shlex.join(given)}"'] if given else [])])
    text = markdown(plan, measured, command, bystanders.share)
    sys.stdout.write(text)
    options.results.mkdir(exist_ok=True)
    (options.results / "gateway.md").write_text(text, encoding="utf-8")
    (options.results / "gateway.svg").write_text(svg(measured), encoding="utf-8")


def _compiled() -> Path | None:
    """The folder of the compiled package, if there is one of the present source for this Python."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    library = COMPILED_FOLDER / "fairlead" / "gateway" / f"worker{suffix}"
    ready = COMPILED_FOLDER / ".ready"
    if not (library.is_file() and ready.is_file()):
        return None
    newest = max(path.stat().st_mtime for path in (ROOT / "src").rglob("*.py"))
    return COMPILED_FOLDER if newest <= ready.stat().st_mtime else None


def _raise_descriptors() -> None:
    """A thousand streams need two thousand descriptors in the proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
