"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.gateway.environments import platform_line
from benchmarks.gateway.peers import COMPILED, FAIRLEAD, OURS
from benchmarks.gateway.plan import DIRECT, Plan, Samples, Spread
from benchmarks.gateway.streams import LEFT_OUT, paces
from benchmarks.gateway.workers import APART, ONE, TWO
from benchmarks.gateway.wrk import CONNECTIONS

Cell = str
_QUIET = 0.03
"""Others may take so much of the cores before the figures are said to be noisy."""


def markdown(plan: Plan, measured: Mapping[str, Samples], command: str, bystanders: float) -> str:
    """All parts that were measured.

    Args:
        bystanders: Share of the two cores that other programs took meanwhile.
    """
    blocks = [_head(plan, command, bystanders)]
    blocks += [_PARTS[part](plan, samples) for part, samples in measured.items()]
    return "\n\n".join(blocks) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table whose first column is text, the others numbers."""
    marks = ["---", *["--:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def number(values: Spread | None, digits: int = 0) -> Cell:
    """A median with its ends."""
    if values is None:
        return ""
    middle, low, high = (f"{v:,.{digits}f}" for v in (values.median, values.low, values.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def ratios(plan: Plan, samples: Samples, measure: str, peer: str) -> list[Cell]:
    """How many times the peer's value fairlead's is, as Python and, if it is there, compiled."""
    return [_ratio(samples, measure, ours, peer) for ours in OURS if ours in plan.proxies]


def ratio_columns(plan: Plan) -> list[str]:
    """Headings of `ratios`."""
    return ["fairlead's is", *(["compiled it is"] if COMPILED in plan.proxies else [])]


def _ratio(samples: Samples, measure: str, ours: str, peer: str) -> Cell:
    values = samples.ratio(measure, ours, peer) if peer not in (*OURS, DIRECT) else None
    if values is None:
        return ""
    ends = f" ({values.low:.2f} to {values.high:.2f})" if values.low < values.high else ""
    return f"**{values.median:.2f}x**{ends}"


def _head(plan: Plan, command: str, bystanders: float) -> str:
    peers = [name for name in plan.proxies if name not in OURS]
    versions = ", ".join(f"{name} {plan.environments.version(name)}" for name in peers)
    noise = f"Other programs took {bystanders:.1%} of the two cores meanwhile"
    if bystanders > _QUIET:
        noise = f"**{noise}: these figures are noisy**"
    built = "It was not compiled."
    if COMPILED in plan.proxies:
        built = f"{COMPILED} is the same with its request path compiled (docs/gateway.md)."
    return "\n".join(
        [
            "# The gateway beside its peers",
            "",
            f"    {command}",
            "",
            f"{plan.rounds} round(s), in each of them every proxy in turn for {plan.seconds:g} s: "
            "medians, in brackets the smallest and the largest. Ratios are taken within each "
            "round. The proxy has one core to itself; the load and the upstream share another. "
            f"On {platform_line()}. Peers: {versions or 'none'}. {noise}.",
            "",
            "fairlead has everything on: API keys, limits on requests, tokens and money (of the "
            "key and of the service; never reached), prices, a canary with a fifth of the users, "
            "a record of each request in a spool on disk, metrics, release headers. Its one worker "
            f"is the process that `fairlead up` starts. {built} Envoy reads `model` from the body "
            "(`json_to_metadata`); LiteLLM checks its master key and has no database; nginx only "
            "passes on: the bare limit.",
        ]
    )


def _plain(plan: Plan, samples: Samples) -> str:
    rows = [
        [
            name,
            number(samples.spread("rps", name)),
            *ratios(plan, samples, "rps", name),
            number(samples.spread("per_cpu_s", name)),
            *ratios(plan, samples, "per_cpu_s", name),
            f"{sum(samples.of('failed', name)):,.0f}",
        ]
        for name in samples.proxies("rps")
    ]
    compared = ratio_columns(plan)
    columns = ["", "requests/s", *compared, "per CPU second", *compared, "failed"]
    records = sum(samples.of("records", FAIRLEAD))
    canary = sum(samples.of("canary", FAIRLEAD))
    return "\n".join(
        [
            "## Plain completions, one core",
            "",
            f"`wrk -t1 -c{CONNECTIONS}`; chat requests of some 240 bytes, a completion of 290. "
            f"fairlead's spool then held {records:,.0f} records, {canary:.1%} of them of the "
            "canary. Per CPU second: of the proxy's own time, whatever else the cores did.",
            "",
            table(columns, rows),
        ]
    )


def _latency(plan: Plan, samples: Samples) -> str:
    rows = [
        [
            name,
            number(samples.spread("p50_us", name)),
            number(samples.spread("p99_us", name)),
            number(samples.spread("added_p50_us", name)),
            number(samples.spread("added_p99_us", name)),
            f"{sum(samples.of('failed', name)):,.0f}",
        ]
        for name in samples.proxies("p50_us")
    ]
    slow = ", ".join(
        f"{name} ({samples.of('too_slow', name)[0]:,.0f} requests/s)"
        for name in samples.proxies("too_slow")
    )
    return "\n".join(
        [
            f"## Latency at {plan.rate:,} requests/s, microseconds",
            "",
            "Requests are sent when they are due, over 50 connections, whatever the answers do, "
            "and timed from when they were due. Added: beyond asking the upstream directly, in "
            f"the same round. Left out because they cannot do the rate: {slow or 'none'}.",
            "",
            table(["", "p50", "p99", "added to p50", "added to p99", "failed"], rows),
        ]
    )


def _streams(plan: Plan, samples: Samples) -> str:
    blocks = [
        f"## {plan.streams:,} streams at the same time",
        "An event is one write of the upstream, and carries the moment of that write. All events "
        "are counted; those of every seventh stream are timed. **Per CPU second**: events by the "
        "CPU time, user's and kernel's, of all of the proxy's threads, at this pace and with as "
        "many together: a proxy with less of a core reads more events at once, later, and needs "
        "less for each, so this compares only beside the delays. The kernel counts the way of "
        "a packet over the loopback as time of its sender, for every proxy alike. Added: the "
        "delay from the "
        "upstream's write to the client's read, beyond that without a proxy in the same round. "
        "Together: events in one read of the client. Load: how much of the other core upstream "
        "and client used; near 100% they are the limit. Memory: resident, by which the proxy grew "
        f"with all streams open. Left out: {', '.join(LEFT_OUT)}, which cannot open so many.",
    ]
    for pace in paces(plan):
        offered = f"{pace.events_per_s} events/s each, {pace.events_per_s * plan.streams:,} in all"
        if pace.held_share:
            offered += f", for a proxy that has {1 - pace.held_share:.0%} of its core"
        blocks += [
            f"### {pace.name.capitalize()}: {offered}",
            _pace_table(plan, pace.name, samples),
        ]
    return "\n\n".join(blocks)


def _pace_table(plan: Plan, pace: str, samples: Samples) -> str:
    compared = ratio_columns(plan)
    columns = ["", "events/s", *compared, "per CPU second", *compared, "of a core"]
    columns += ["added p50, ms", "added p99, ms", "together", "load", "memory, MB", "broken"]
    rows = []
    for name in samples.proxies(f"{pace}_events"):
        used, load = samples.spread(f"{pace}_cpu", name), samples.spread(f"{pace}_load", name)
        rows.append(
            [
                name,
                number(samples.spread(f"{pace}_events", name)),
                *ratios(plan, samples, f"{pace}_events", name),
                number(samples.spread(f"{pace}_per_cpu_s", name)),
                *ratios(plan, samples, f"{pace}_per_cpu_s", name),
                f"{used.median:.0%}" if used else "",
                number(samples.spread(f"{pace}_added_p50_ms", name), 2),
                number(samples.spread(f"{pace}_added_p99_ms", name), 2),
                number(samples.spread(f"{pace}_together", name), 1),
                f"{load.median:.0%}" if load else "",
                number(samples.spread(f"{pace}_mb", name), 1),
                f"{sum(samples.of(f'{pace}_lost', name)):,.0f}",
            ]
        )
    return table(columns, rows)


def _workers(plan: Plan, samples: Samples) -> str:
    rows = []
    for name in (ONE, TWO, APART):
        busiest = samples.spread("busiest", name)
        rows.append(
            [
                name,
                number(samples.spread("rps", name)),
                number(samples.spread("per_cpu_s", name)),
                f"{busiest.median:.0%}" if busiest else "",
                f"{sum(samples.of('failed', name)):,.0f}",
            ]
        )
    scaling = number(samples.ratio("rps", TWO, ONE), 2)
    alone = number(samples.ratio("per_cpu_s", TWO, ONE), 2)
    apart = number(samples.ratio("rps", APART, ONE), 2)
    shared = number(samples.ratio("rps", TWO, APART), 2)
    return "\n".join(
        [
            "## Two workers beside one",
            "",
            "A cell is a core with a worker, a wrk and an upstream of its own: one cell with the "
            "other core idle, then two cells with both workers on one listening socket. Twice the "
            "machine for twice the load, so perfect is 2; the workers share their cores with the "
            "load, so each does less than above. Two gateways apart share nothing, and "
            "each core loads both: what they do is what its two cores can.",
            "",
            table(["", "requests/s", "per CPU second", "busiest worker's share", "failed"], rows),
            "",
            f"Two workers do **{scaling}** times what one does, and per CPU second {alone} times; "
            f"two gateways apart do {apart} times what one does, so two workers **{shared}** of "
            "what the machine can.",
        ]
    )


_PARTS: dict[str, Callable[[Plan, Samples], str]] = {
    "plain": _plain,
    "latency": _latency,
    "streams": _streams,
    "workers": _workers,
}
