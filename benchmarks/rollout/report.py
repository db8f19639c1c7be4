"""The tables and the picture, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.rollout.delays import BESIDE, FURTHER, KNOWING, LATENCIES, SCENARIOS, UNKNOWN

from fairlead.stats.special import kl

Measured = Mapping[str, Any]
OURS = "fairlead"
_WIDTH, _LEFT, _RIGHT = 760, 250, 110
_BAR, _STEP = 16, 22
_COLOURS = {OURS: "#0f766e", "bound": "#0f172a"}
_OTHER = "#94a3b8"

HEAD = """# The judge: how often it is wrong, how soon it decides

`python -m benchmarks.rollout` (`make bench-rollout`) measures this; `--quick` is its short form for
CI. Rollouts are simulated with fixed seeds: the weights of the bets were chosen on other seeds than
those reported, and the arrays of rollouts that are used for it do to each what the judge does
(`tests/stats/test_vectorised.py`). A canary gets 10 % of the traffic unless said otherwise, and
there is a look every 50 requests. *The bound* is `rho * ln(1/alpha) / I(arm; outcome)` canary
requests: no rule with at most 1 % false alarms has its mean below it.

![Canary requests until the rollback, and false alarms](rollout.svg)
"""


def text(measured: Measured) -> str:
    """The page."""
    parts = [HEAD]
    delays = [*(measured.get("delays") or []), *(measured.get("slow") or [])]
    if measured.get("errors"):
        parts += ["\n## How often it is wrong\n", *_errors(measured["errors"])]
    if delays:
        parts += ["\n## How soon a worse canary is rolled back\n", *_delays(delays)]
    if measured.get("whole"):
        parts += ["\n## Whole rollouts\n", *_wholes(measured["whole"])]
    if measured.get("pairs"):
        parts += ["\n## Shadow pairs\n", *_pairs(measured["pairs"])]
    if measured.get("latencies"):
        parts += ["\n## Real latencies\n", *_latencies(measured["latencies"])]
    if measured.get("cost"):
        parts += ["\n## Cost\n", *_cost(measured["cost"])]
    return "\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "| --- |" + " --: |" * (len(heads) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _errors(errors: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield (
        "*False rollback*: although the canary is no worse, at most 1 %. *False promotion*: "
        "although it is worse by exactly the margin (3 points; 10 % of a latency), at most 5 %. "
        "*Misses the difference*: the confidence sequence that is shown, at any moment, at most "
        "5 %. "
        "The "
        "lower limit is the one-sided 99 % Clopper-Pearson limit; it must not be above the nominal "
        "rate. The first two worlds have 100,000 requests (promotions 30,000), one a million, "
        "latencies 15,000 to 25,000, twelve metrics 5,000 to 10,000, the others 30,000.\n"
    )
    kept = [error for error in errors if error["holds"] and error["nominal"] < 1]
    rows = [
        [
            error["world"], error["kind"], f"{error['rollouts']:,}",
            f"{error['wrong'] / error['rollouts']:.2%}", f"{error['lower']:.2%}",
            f"{error['nominal']:.0%}", "yes" if error["kept"] else "**no**",
        ]
        for error in kept
    ]  # fmt: skip
    heads = ("world", "error", "rollouts", "rate", "lower limit", "nominal", "kept")
    yield from _table(heads, rows)
    yield f"\nKept in {sum(error['kept'] for error in kept)} of {len(kept)}."
    yield "\nWhat happens in a trap to who walks into it, and what the ratio guard catches:\n"
    rows = [
        [error["world"], error["kind"], f"{error['wrong'] / error['rollouts']:.1%}"]
        for error in errors
        if not error["holds"] or error["nominal"] == 1
    ]
    yield from _table(("trap", "what happens", "of the rollouts"), rows)


def _by(delays: Sequence[dict[str, Any]], scenario: str, rule: str) -> dict[str, Any] | None:
    return next((d for d in delays if d["scenario"] == scenario and d["rule"] == rule), None)


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _delays(delays: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "Mean canary requests, and their ratio to the bound. *One who knows* makes the same bets"
    yield "with all capital on what is the case: what is above 1 there is the overshoot of the last"
    yield "step and the looks, which no rule avoids. The rest is the price of not knowing how much"
    yield "worse the canary is, ln(1/weight) nats of ln(100). The judge has seen 2,000 requests of"
    yield "the champion before; *nothing known*: as a live rollout starts, with a guess (5 %, worth"
    yield "100 requests) for a rate, and no bet on a latency before the champion has shown 200.\n"
    groups = (
        ("the goal's", [name for name, *_ in SCENARIOS], 1.25),
        ("further, not used when weights were chosen", [name for name, *_ in FURTHER], None),
        ("latency, all slower", [c.name for c in LATENCIES if c.kind == "shift"], 1.35),
        ("latency, the tail alone", [c.name for c in LATENCIES if c.kind == "tail"], 2.0),
    )
    rows, means = [], []
    for title, names, goal in groups:
        ratios, blinds = [], []
        for name in names:
            ours, knowing = _by(delays, name, OURS), _by(delays, name, KNOWING)
            if ours is None or knowing is None:
                continue
            ratios.append(ours["ratio"])
            blind = _by(delays, name, UNKNOWN)
            if blind is not None:
                blinds.append(blind["ratio"])
            rows.append(
                [name, f"{ours['bound']:,.0f}", f"{ours['mean']:,.0f}", f"{ours['median']:,.0f}",
                 f"{ours['ratio']:.2f}", "–" if blind is None else f"{blind['ratio']:.2f}",
                 f"{knowing['ratio']:.2f}"]
            )  # fmt: skip
        if ratios:
            means.append(
                [
                    title,
                    f"{_mean(ratios):.2f}",
                    f"{max(ratios):.2f}",
                    f"{_mean(blinds):.2f}" if blinds else "–",
                    "–" if goal is None else f"{goal:.2f}",
                ]
            )
    yield from _table(
        ("scenario", "bound", "mean", "median", "mean / bound", "nothing known", "one who knows"),
        rows,
    )
    yield "\n"
    yield from _table(("scenarios", "geometric mean", "worst", "nothing known", "goal"), means)
    yield "\nWhat is missed: latencies that are all slower, and of the tails the upper tenth"
    yield "stretched. A quarter of the capital is kept for tails; without it the shifts would gain"
    yield "ln(1/0.74) = 0.3 nats of 4.6, and the tails would not be found. With it the tails have"
    yield "some 0.03 to 0.07 each, and ln(1/0.07) = 2.7 nats is what that costs. More on one side"
    yield "is less on the other; a rule that knows which one to expect reaches the last column."
    yield "Rollouts on latencies end at six times the bound.\n"
    yield "\n### Beside others\n"
    yield "Medians of canary requests, and in brackets the false alarms in the scenario's own equal"
    yield "canary over 100,000 requests. Tuned rules had their limit set for this very scenario,"
    yield "with the champion known exactly, and are the best of 16 to 24 (checks) and 4 (ranks): a"
    yield "favour. fairlead's false alarms are in the first table.\n"
    beside = [*(name for name, *_ in SCENARIOS), *BESIDE]
    rules = list(dict.fromkeys(d["rule"] for d in delays if d["alarms"] is not None))
    rows = []
    for rule in (OURS, *rules):
        row = [rule]
        for name in beside:
            found = _by(delays, name, rule)
            row.append("–" if found is None else _cell(found))
        rows.append(row)
    yield from _table(("rule", *beside), rows)
    others = [d for d in delays if d["scenario"].startswith(("safety, at", "92 → 87 % after"))]
    if others:
        yield "\n### Further\n"
        yield from _table(
            ("case", "rule", "mean canary requests"),
            [[d["scenario"], d["rule"], f"{d['mean']:,.0f}"] for d in others],
        )


def _cell(delay: dict[str, Any]) -> str:
    count = f"{delay['median']:,.0f}" if math.isfinite(delay["median"]) else "never"
    return count if delay["alarms"] is None else f"{count} ({delay['alarms']:.1%})"


def _wholes(wholes: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "Champion with 0.5 % errors, margin 1 point, if not said otherwise. What is neither"
    yield "promoted nor rolled back is inconclusive: it goes back to the champion.\n"
    rows = [
        [
            one["canary"], one["rule"], f"{one['promoted'] / one['rollouts']:.1%}",
            f"{one['rolled_back'] / one['rollouts']:.1%}", f"{one['requests']:,.0f}",
        ]
        for one in wholes
    ]  # fmt: skip
    yield from _table(("canary", "rule", "promoted", "rolled back", "canary requests"), rows)


def _ratio_of_bounds(case: Mapping[str, Any]) -> float:
    """The bound of pairs by the bound of a split in halves, for these very outcomes."""
    worse = abs(case["canary_wrong"] - case["champion_wrong"])
    more, fewer = (case["discordant"] + worse) / 2, (case["discordant"] - worse) / 2
    middle = case["discordant"] / 2
    by_pairs = more * math.log(more / middle) + fewer * math.log(fewer / middle)
    m = (case["canary_wrong"] + case["champion_wrong"]) / 2
    by_split = kl(case["canary_wrong"], m) + kl(case["champion_wrong"], m)
    return by_split / by_pairs


def _pairs(pairs: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "The same prompts to both releases, against half of the traffic to each; mean canary"
    yield "requests to the verdict. Banking: real answers of the example's releases to the 3,080"
    yield "questions of Banking77's test file, drawn with replacement. *Bounds*: the ratio of the"
    yield "two bounds (for a rollback) with these outcomes: how far pairs can help depends on how"
    yield "many answers differ. The goal, a quarter, is reached where few do; these releases differ"
    yield "on so many that pairs need about half of a split, whatever the rule.\n"
    rows = [
        [
            one["case"],
            one["verdict"],
            *(f"{one[key]:.1%}" for key in ("champion_wrong", "canary_wrong", "discordant")),
            *(f"{one[key]:,.0f}" for key in ("pairs", "split")),
            f"{one['ratio']:.2f}",
            f"{_ratio_of_bounds(one):.2f}" if one["verdict"] == "roll back" else "–",
        ]
        for one in pairs
    ]  # fmt: skip
    heads = ("case", "verdict", "champion wrong", "canary wrong", "differ", "pairs", "split")
    yield from _table((*heads, "ratio", "bounds"), rows)


def _latencies(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "A sequence of 4,000 latencies of a llama.cpp replica while other processes come and go,"
    yield "in its order; its requests are assigned at random for each rollout, and the canary's"
    yield "are multiplied. Equal: 6,000 requests; else up to 30,000.\n"
    yield from _table(
        ("canary", "rollouts", "rolled back", "median canary requests"),
        [
            [
                one["canary"],
                f"{one['rollouts']:,}",
                f"{one['rolled_back'] / one['rollouts']:.1%}",
                "–" if one["canary_requests"] is None else f"{one['canary_requests']:,.0f}",
            ]
            for one in rows
        ],
    )  # fmt: skip


def _cost(cost: Mapping[str, float]) -> Iterator[str]:
    yield "CPU microseconds on one core, pure Python.\n"
    yield from _table(("update", "µs"), [[name, f"{us:.1f}"] for name, us in cost.items()])


def picture(measured: Measured) -> str:
    """Delays beside others, and false alarms."""
    delays = measured.get("delays") or []
    out: list[str] = []
    top = 18
    for name, *_ in SCENARIOS:
        ours = _by(delays, name, OURS)
        if ours is None:
            continue
        bars = [
            ("bound (of the mean)", ours["bound"], "", "bound"),
            (OURS, ours["median"], "", OURS),
        ]
        bars += [
            (d["rule"], d["median"], f"  {d['alarms']:.1%} false alarms", "")
            for d in delays
            if d["scenario"] == name and d["alarms"] is not None and d["alarms"] < 0.9
        ]
        out += _panel(f"{name}: canary requests until the rollback (less is better)", bars, top)
        top += 34 + _STEP * len(bars) + 16
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" '
        f'height="{top}" font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Canary requests until a worse canary is rolled back">'
    )
    background = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([frame, background, *out, "</svg>"]) + "\n"


def _panel(title: str, bars: Sequence[tuple[str, float, str, str]], top: int) -> list[str]:
    finite = [value for _, value, _, _ in bars if math.isfinite(value)]
    room = _WIDTH - _LEFT - _RIGHT - 60
    out = [f'<text x="16" y="{top + 16}" font-weight="600" fill="#0f172a">{escape(title)}</text>']
    for number, (name, value, note, kind) in enumerate(bars):
        y = top + 28 + number * _STEP
        width = room * min(value, max(finite)) / max(finite) if math.isfinite(value) else 1.0
        shown = f"{value:,.0f}" if math.isfinite(value) else "never"
        weight = ' font-weight="600"' if kind == OURS else ""
        out += [
            f'<text x="{_LEFT - 10}" y="{y + 12}" text-anchor="end" fill="#0f172a"{weight}>'
            f"{escape(name)}</text>",
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
            f'fill="{_COLOURS.get(kind, _OTHER)}"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 12}" fill="#0f172a"{weight}>{shown}'
            f'<tspan fill="#64748b" font-size="11">{escape(note)}</tspan></text>',
        ]
    return out
