"""`fairlead status`: the whole installation at a glance."""

from __future__ import annotations

import time

import typer
from rich.text import Text

from fairlead.cli.alerts import alert_line
from fairlead.cli.drill import drill_lines
from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    StateOption,
    client,
    console,
    number,
    print_json,
    say,
    table,
)
from fairlead.cli.probes import probes_line
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.views import (
    FiguresView,
    JudgingView,
    ServiceView,
    StatusView,
    WatchView,
)
from fairlead.control.watching.interface import OLD_S
from fairlead.domain.release import short
from fairlead.rollout.plan import percent

_COLOURS = {"ready": "green", "starting": "yellow", "surplus": "dim", "stopping": "dim"}


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """Show services, releases, replicas and gateway workers."""
    view = client(state).get(StatusView, "status")
    if as_json:
        print_json(view)
        return
    say(
        ("gateway", "bold"),
        f" {view.gateway_url}/v1   "
        f"{len(view.workers)} workers, snapshot {view.snapshot}   "
        f"records {view.observer_lag_s:.1f} s behind",
    )
    for line in watched_lines(view, time.time()):
        console.print(line)
    if not view.services:
        say(("no service yet; ship one: fairlead init, fairlead ship", "dim"))
    for service in view.services:
        _service(service)
    if view.replicas:
        shown = table(
            "=replica", "=state", "=address", ">pid", ">restarts", "~detail",
            gives_way=("restarts", "pid", "address"),
        )  # fmt: skip
        for replica in view.replicas:
            colour = _COLOURS.get(replica.state, "red")
            shown.add_row(
                replica.id,
                Text(replica.state, style=colour),
                replica.base_url,
                str(replica.pid or ""),
                str(replica.restarts),
                replica.detail.strip().splitlines()[-1][:80] if replica.detail.strip() else "",
            )
        console.print(shown)


def watched_lines(view: StatusView, now: float) -> list[Text]:
    """What fires and goes on: how many, and the gravest; nothing where all is well."""
    lines = []
    if view.watching_age_s >= OLD_S or view.watching_trouble:
        why = f": {view.watching_trouble}" if view.watching_trouble else ""
        said = f"  no look at the services for {view.watching_age_s:,.0f} s{why}"
        hint = ("  (fairlead doctor)", "dim")
        lines.append(Text.assemble(("not watched", "bold red"), said, hint))
    if not view.alerts and not view.incidents:
        return lines
    counts = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in ((view.alerts, "alert"), (view.incidents, "incident"))
        if count
    ]
    lines.append(
        Text.assemble(
            ("watched", "bold"), "  ", (" and ".join(counts), "red" if view.alerts else "yellow"),
            ("  (fairlead alerts, fairlead incidents)", "dim"),
        )
    )  # fmt: skip
    return lines + [Text.assemble("  ", alert_line(one, now)) for one in view.gravest[:1]]


def _service(service: ServiceView) -> None:
    line = Text.assemble("\n", (service.name, "bold"), "  ")
    if service.champion:
        line.append("champion ").append(service.champion_name, style="green")
        line.append(f" {short(service.champion)}")
    else:
        line.append("no champion", style="yellow")
    if service.canary:
        line.append("   canary ").append(short(service.canary), style="yellow")
        line.append(f" at {percent(service.share)} ({service.rollout})")
    console.print(line)
    if service.trouble:
        say((f"  {service.trouble}", "red"))
    if service.tightened:
        names = ", ".join(service.tightened)
        say((f"  guardrail {names} blocks, because of an action", "yellow"))
    if service.watch is not None:
        say(*watch_words(service.watch))
    if service.probes is not None:
        console.print(probes_line(service.probes))
    if service.drills is not None:
        for text in drill_lines(service.drills):
            console.print(text)
    if service.samples:
        say((f"  {service.samples:,} samples of prompts and answers are kept", "dim"))
    if service.judging is not None:
        say("  judge ", judging_line(service.judging))
    if service.live_judging is not None:
        live = service.live_judging
        say("  judge of live traffic ", live_judging_line(live))
        say((f"    {live.error}", "dim"))
    if service.figures:
        console.print(figures_table(service.figures))
    for slo in service.slos:
        if slo.met is None:
            say("  ", (f"{slo.name} {slo.target:g}: nothing measured yet", "dim"))
        else:
            mark = ("met", "green") if slo.met else ("missed", "red")
            say(f"  {slo.name} {slo.target:g}: {number(slo.measured, 4)} ", mark)


def watch_words(watch: WatchView) -> tuple[str | tuple[str, str], ...]:
    """A champion's slow watch on one line, or its alarm."""
    if watch.alarm:
        by = "goes back by " if watch.went_back.startswith("ro-") else ""
        back = f"; {by}{watch.went_back}" if watch.went_back else ""
        return ((f"  ALARM: {watch.alarm}{back}", "bold red"),)
    rate = "nothing yet" if watch.rate is None else f"{100 * watch.rate:.3g} % of {watch.units:,}"
    return (
        f"  slow watch: failures {rate} units, limit {100 * watch.limit:.3g} % ",
        (f"(evidence {watch.evidence:,.1f} of {watch.threshold:g})", "dim"),
    )


def judging_line(view: JudgingView) -> str:
    """How far a judge model is: its queue, its age, its cost, and what stops it."""
    more = " or more" if view.pending_is_more else ""
    parts = [f"{view.judge}: {view.judged:,} samples judged, {view.pending:,}{more} wait"]
    if view.oldest_s is not None:
        parts.append(f"the oldest for {view.oldest_s:,.0f} s")
    if view.unjudged:
        parts.append(f"{view.unjudged:,} without a verdict")
    parts.append(f"{view.asked:,} questions")
    if view.usd or view.usd_today:
        parts.append(f"{view.usd:.4f} USD, {view.usd_today:.4f} today")
    if view.share < view.share_declared:
        parts.append(
            f"asked about {view.share:.2%} of the sample in place of {view.share_declared:.0%}, "
            "since it could not keep up"
        )
    if view.said:
        parts.append(view.said)
    return ", ".join(parts)


def live_judging_line(view: LiveJudgingView) -> str:
    """How far the judge model of live traffic is: share, queue, what it spent, what stops it."""
    more = " or more" if view.pending_is_more else ""
    of_cap = "" if view.per_day is None else f" of {view.per_day:,}"
    parts = [
        f"{view.judge}: {percent(view.share)} of the sample",
        f"{view.judged_today:,} judged today, {view.pending:,}{more} wait",
        f"{view.asked_today:,}{of_cap} questions",
    ]
    if view.oldest_s is not None:
        parts.insert(2, f"the oldest for {view.oldest_s:,.0f} s")
    if view.unjudged_today:
        parts.append(f"{view.unjudged_today:,} without a verdict")
    if view.usd_today or view.usd_per_day is not None:
        cap = "" if view.usd_per_day is None else f" of {view.usd_per_day:g}"
        parts.append(f"{view.usd_today:.4f}{cap} USD")
    if view.said:
        parts.append(view.said)
    return ", ".join(parts)


def figures_table(figures: list[FiguresView]) -> Listing:
    """One line per release: requests, errors, latency, tokens, feedback."""
    shown = table(
        "release", ">requests", ">errors", ">TTFT p50", ">p95", ">latency p50", ">p95", ">p99",
        ">tokens in", ">out", "feedback",
        gives_way=("p99", "out", "tokens in", "p95"),
    )  # fmt: skip
    for line in figures:
        shown.add_row(
            f"{line.name} {short(line.release)}",
            f"{line.requests:,}",
            f"{line.errors:,}",
            f"{number(line.ttft_ms_p50)} ms",
            number(line.ttft_ms_p95),
            f"{number(line.latency_ms_p50)} ms",
            number(line.latency_ms_p95),
            number(line.latency_ms_p99),
            f"{line.prompt_tokens:,}",
            f"{line.completion_tokens:,}",
            ", ".join(f"{n} {mean:.3f} ({count})" for n, (count, mean) in line.feedback.items()),
        )
    return shown
