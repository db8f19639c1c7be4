"""One slow key among others: where it comes in busy times only, and where keys are rare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from statistics import median

from benchmarks.kept import Runs

from fairlead.monitoring.monitors.interface import Seen
from fairlead.monitoring.monitors.keys import SlowKeyMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from support.key_traffic import SLOW_FROM, START, in_spells, seldom

RUNS = 10
RARE, RARE_SINCE = 5_000, 2_500
LOOK_EVERY = 20

_WORLDS: dict[str, Callable[[int], Iterable[Seen]]] = {
    "comes in busy times only": in_spells,
    "the same, by what came lately": lambda seed: _by_what_came(in_spells(seed)),
    "comes in busy times only, 1.5× as slow": lambda seed: in_spells(seed, 1.5),
    "two with a request in five minutes": lambda seed: seldom(seed, RARE),
    "two with a request in five minutes, one 1.5× as slow": lambda seed: _rare(seed, 1.5),
    "two with a request in five minutes, one 2× as slow": lambda seed: _rare(seed, 2.0),
}
NAMES = tuple(_WORLDS)


def key_run(name: str, seed: int) -> tuple[str, float | None]:
    """Which keys were named, and how many requests of the slow one that took."""
    monitor, since = SlowKeyMonitor("bank", "sha256:ab", MonitorSettings()), 0
    begin = _fault_begins(name, seed)
    for number, seen in enumerate(_WORLDS[name](seed)):
        monitor.see(seen)
        since += seen.request.key == "batch" and seen.request.started_at >= begin
        if number % LOOK_EVERY == 0:
            found = {dict(one.labels)["key"] for one in monitor.conditions(START)}
            if found:
                return ", ".join(sorted(found)), float(since)
    return "none", None


def key_table(runs: Runs) -> Iterator[str]:
    """A line for each world."""
    yield "| key `batch` | runs | named | median requests of it to the alarm |"
    yield "| --- | --: | --- | --: |"
    for name in NAMES:
        yield _row(name, [(str(word), since) for word, since in runs[name]])
    yield ""
    yield (
        "One replica, which does three quarters of what it can, and in spells of twenty minutes "
        "three tenths more: then far more are open, and times are far longer, than what came in "
        "the ten seconds before would tell. Key `batch` asks for a tenth of all while that is "
        "learnt, and later in these spells only; it becomes slower in the third of them. Key `app` "
        "asks once in 45 seconds. *By what came lately*: if the monitor took that for load. "
        "Rare keys ask at random times, and one of them becomes slower after "
        f"{RARE_SINCE:,} requests of both."
    )


def _row(name: str, said: Sequence[tuple[str, float | None]]) -> str:
    words = [word for word, _ in said]
    counts = ", ".join(f"{word} {words.count(word)}" for word in sorted(set(words)))
    delays = [n for _, n in said if n is not None]
    is_fault = "as slow" in name
    middle = f"{median(delays):,.0f}" if delays and is_fault else "–"
    return f"| {name} | {len(said)} | {counts} | {middle} |"


def _by_what_came(hours: Iterable[Seen]) -> Iterator[Seen]:
    return (seen._replace(open=seen.load) for seen in hours)


def _rare(seed: int, slow: float) -> Iterator[Seen]:
    return seldom(seed, RARE, slow=slow, since=RARE_SINCE)


def _fault_begins(name: str, seed: int) -> float:
    """Unix time from which on requests of the key count."""
    if "five minutes" not in name:
        return START + SLOW_FROM
    (first,) = islice(seldom(seed, RARE), RARE_SINCE, RARE_SINCE + 1)
    return first.request.started_at
