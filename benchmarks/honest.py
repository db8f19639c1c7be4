"""Honest, varied traffic on a whole installation: no alert may be raised.

    make soak-honest ARGS="--minutes 60"

Starts `fairlead up` with two workers. Two services are llama.cpp models with two replicas each, and
the drift of one goes by vectors of another llama.cpp model; four are behind a provider's name, who
answers in sentences. Users ask Banking77's questions (of FAIRLEAD_DATA; else the example's), in
conversations, in a mix that never changes, and a part of the answers is streamed. Traffic has the
waves of a day (three of them), bursts, a trickle and a steady stream, of several API keys. One
service has guardrails, which are hit now and then. Drift goes by word vectors, where
`make bench-monitoring` has left their table below build/, and else by spelling. All monitors are
on: promises, those of requests and texts, segments, probes, pairs for bias, and scores on BBQ (of
FAIRLEAD_DATA). Every alert that fires at any time is listed, with what each monitor has looked at;
one alert, and the check has failed.

`--fault failing` (or slow, broken, refusing, dear, wrong) makes one provider worse half-way, to see
that this check can fail.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.gateway.processes import Bystanders  # noqa: E402
from benchmarks.honest_engine import HonestEngine, honest_engine  # noqa: E402
from benchmarks.honest_report import Honest, markdown  # noqa: E402
from benchmarks.honest_services import FAULTY, VECTORS, lay_table, services, ship  # noqa: E402
from benchmarks.honest_texts import has_banking77, questions  # noqa: E402

from fairlead.app.state import StatePaths  # noqa: E402
from fairlead.control.bias.telling import BiasView  # noqa: E402
from fairlead.control.bias.tracking_views import TrackedView  # noqa: E402
from fairlead.control.watching.watch_views import AlertView, MonitorView  # noqa: E402
from fairlead.domain.errors import Unavailable  # noqa: E402
from support.installation import Installation, running  # noqa: E402
from support.live_rollouts import MODELS  # noqa: E402
from support.recorded_engine import Model  # noqa: E402

RESULTS = Path(__file__).parent / "results"
LOOK_S = 5.0
KEYS = ("app", "batch", "partner")
LEARN_MIN = 200


def main() -> int:
    """Watch honest traffic, print the report and keep it; 1 when anything was told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--learn", type=int, default=1_000, help="requests to learn from")
    parser.add_argument("--rate", type=float, default=1.0, help="times as many requests")
    parser.add_argument("--fault", choices=sorted(set(MODELS) - {"equal"}), help="see above")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    given = parser.parse_args()
    if given.learn < LEARN_MIN:
        parser.error(f"--learn: {given.learn}; monitors learn from {LEARN_MIN} requests at least")
    bystanders = Bystanders(range(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(prefix="fairlead-honest-") as folder:
        state = Path(folder) / "state"
        has_table = lay_table(StatePaths(state))
        with running(state) as installation:
            honest = asyncio.run(_watch(installation, given))
    honest.about = [_asked(), _vectors(has_table=has_table)]
    text = markdown(honest, _command(), bystanders.share)
    sys.stdout.write(text)
    given.results.mkdir(parents=True, exist_ok=True)
    name = "honest-fault.md" if given.fault else "honest.md"
    (given.results / name).write_text(text, encoding="utf-8")
    return 1 if honest.problems() else 0


def _command() -> str:
    """As the report has it: without the folder, which is of this machine."""
    given = sys.argv[1:]
    if "--results" in given:
        at = given.index("--results")
        del given[at : at + 2]
    return f'make soak-honest ARGS="{" ".join(given)}"' if given else "make soak-honest"


def _asked() -> str:
    """What is asked, in words."""
    whose = "Banking77's" if has_banking77() else "the example's, as Banking77 was not there"
    return (
        f"Questions are {len(questions()):,} of {whose}, in conversations; each service has a mix "
        "of intents of its own, which never changes. Providers answer in one or two sentences, "
        "and in JSON where that is asked for. Two questions in a hundred end with an e-mail "
        "address, one in two hundred with the number of a card, which a guardrail of one service "
        "blocks."
    )


def _vectors(*, has_table: bool) -> str:
    """By what drift goes, in words."""
    if has_table:
        return "Drift goes by the table of word vectors, but where it says by which others."
    return (
        "Drift goes by spelling (hashed n-grams), but where it says by which others: the table of "
        "word vectors was not there, which `make bench-monitoring` makes."
    )


async def _watch(installation: Installation, given: argparse.Namespace) -> Honest:
    seconds = 60.0 * given.minutes
    served = services(seconds, given.rate)
    honest = Honest(seconds, {one.name: one.told for one in served})
    installation.make_key()
    keys = [installation.make_key(name) for name in KEYS]
    async with honest_engine({one.name: Model() for one in served if one.is_hosted}) as engine:
        for name in (VECTORS, *(one.name for one in served)):
            await asyncio.to_thread(ship, installation, name, engine.port, given.learn)
        stop, begun = asyncio.Event(), time.monotonic()
        visitors = [
            one.visitors(installation.gateway, keys, seed) for seed, one in enumerate(served)
        ]
        before = _own_cpu_s() + engine.cpu_s
        coming = [asyncio.create_task(one.run(stop)) for one in visitors]
        try:
            await _until_the_end(installation, honest, engine, given.fault)
        finally:
            stop.set()
            await asyncio.gather(*coming)
        used = _own_cpu_s() + engine.cpu_s - before
        honest.load = used / (time.monotonic() - begun)
    for one in visitors:
        asked = sum(one.statuses.values())
        honest.asked[one.service], honest.stopped[one.service] = asked, one.stopped
        honest.failed[one.service] = asked - one.stopped - one.statuses[200] + one.broken
        honest.conversations[one.service] = one.conversations
        honest.held_back += one.held_back
    return honest


def _own_cpu_s() -> float:
    """Processor time of the users, who are this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _until_the_end(
    installation: Installation, honest: Honest, engine: HonestEngine, fault: str | None
) -> None:
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < honest.seconds:
        if fault and not honest.fault and at >= honest.seconds / 2:
            await engine.become({FAULTY: MODELS[fault]})
            honest.fault = f"{FAULTY} became {fault} after {at / 60:.1f} minutes"
        await asyncio.to_thread(_look, installation, honest, at)
        await asyncio.sleep(LOOK_S)


def _look(installation: Installation, honest: Honest, at: float) -> None:
    """An alert lasts for minutes: none is missed in between."""
    try:
        firing = installation.control.get(list[AlertView], "alerts", limit=1000)
        honest.monitors = installation.control.get(list[MonitorView], "monitors")
        honest.pairs = installation.control.get(list[BiasView], "bias")
        honest.scores = installation.control.get(list[TrackedView], "bias", "tracked")
    except Unavailable:
        return  # the next look
    for alert in firing:
        first, _ = honest.alerts.get(alert.fingerprint, (at, alert))
        honest.alerts[alert.fingerprint] = (first, alert)


if __name__ == "__main__":
    sys.exit(main())
