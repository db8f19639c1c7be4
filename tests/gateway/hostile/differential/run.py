"""The whole comparison: a million messages with h11, then what the proxies have time for.

python tests/gateway/hostile/differential/run.py --cases 1000000 --minutes 2 --report FILE
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HOSTILE = Path(__file__).parents[1]
sys.path[:0] = [str(HOSTILE), str(HOSTILE.parent)]

import h11  # noqa: E402
import uvloop  # noqa: E402
from mutations import mutated  # noqa: E402
from timing import code  # noqa: E402

from differential.peers import PEERS, Peer  # noqa: E402
from differential.through import Report, behind, in_front  # noqa: E402
from differential.views import compare_with_h11  # noqa: E402

_CASES_AT_ONCE = 20_000


def with_h11(seed: int, cases: int) -> Report:
    """So many messages, without sockets, each cut at random places for the gateway."""
    report = Report(title="h11")
    chance = random.Random(seed)
    began = time.monotonic()
    for _ in range(cases):
        wire = mutated(chance)
        cuts = [chance.randrange(400) for _ in range(chance.randrange(4))]
        verdict, ours, theirs = compare_with_h11(wire, cuts)
        report.note(verdict, wire, cuts, ours, theirs)
        if len(ours.requests) < len(theirs.requests):
            report.kinds[f"(of these: {ours.why or 'one after the other, pipelined'})"] += 1
    report.seconds = time.monotonic() - began
    return report


def _added_up(parts: list[Report]) -> Report:
    total = parts[0]
    for part in parts[1:]:
        total.cases += part.cases
        total.kinds += part.kinds
        total.unsafe += part.unsafe
        total.seconds += part.seconds
    return total


def _million(cases: int, seed: int, processes: int) -> Report:
    seeds = [seed + n for n in range(max(1, cases // _CASES_AT_ONCE))]
    each = min(cases, _CASES_AT_ONCE)
    parts: list[Report] = []
    with ProcessPoolExecutor(processes) as pool:
        for part in pool.map(with_h11, seeds, [each] * len(seeds)):
            parts.append(part)
            sys.stderr.write(f"{len(parts) * each:,} of {cases:,}\n")
    return _added_up(parts)


def _through(peer: Peer, seed: int, minutes: float) -> list[Report]:
    def for_a_time() -> Callable[[int], bool]:
        deadline = time.monotonic() + minutes * 60
        return lambda _: time.monotonic() < deadline

    return [
        uvloop.run(in_front(peer, seed, for_a_time())),
        uvloop.run(behind(peer, seed, for_a_time())),
    ]


def written(report: Report, version: str) -> str:
    """One section of the report, in Markdown."""
    lines = [f"## {report.title}", "", f"{version}; {report.cases:,} messages.", ""]
    lines += ["| what came of a message | messages |", "| --- | --: |"]
    lines += [f"| {kind} | {count:,} |" for kind, count in report.kinds.most_common()]
    lines += ["", f"Two requests for one where the other sees one: **{len(report.unsafe)}**.", ""]
    lines += [f"- `{text[:1000]}`" for text in report.unsafe[:20]]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 1 when anything unsafe was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="messages compared with h11")
    parser.add_argument("--minutes", type=float, default=2.0, help="for each proxy and direction")
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=[peer.name for peer in PEERS])
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    found: list[tuple[Report, str]] = []
    if given.cases:
        found.append((_million(given.cases, given.seed, given.processes), f"h11 {h11.__version__}"))
    for peer in PEERS:
        if peer.name not in given.peers:
            continue
        if peer.executable is None:
            sys.stderr.write(f"*** {peer.name} is not here: apt-get install {peer.package}\n")
            continue
        found += [(report, peer.version) for report in _through(peer, given.seed, given.minutes)]
    text = f"The gateway {code()}.\n\n"
    text += "\n".join(written(report, version) for report, version in found)
    sys.stdout.write(text)
    if given.report is not None:
        given.report.write_text(text, encoding="utf-8")
    return int(any(report.unsafe for report, _ in found))


if __name__ == "__main__":
    sys.exit(main())
