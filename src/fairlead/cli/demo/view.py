"""What the demo shows while it runs, and the summary at its end."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairlead.cli.demo.report import Report
from fairlead.cli.demo.traffic import Traffic
from fairlead.cli.follow import OUTCOME_STYLES, brief, panel
from fairlead.cli.options import table
from fairlead.control.views import RolloutView, ServiceView, StatusView
from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome

STORY_LINES = 12
"""More than are told, so that none scrolls out; each is one line."""
STATE_STYLES = {"ready": "green", "starting": "yellow", "surplus": "dim", "stopping": "dim"}


class DemoView:
    """Holds the newest facts; rendering reads them."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._story: deque[Text] = deque(maxlen=STORY_LINES)
        self.act = "starting fairlead"
        self.status: StatusView | None = None
        self.rollout: RolloutView | None = None
        self.traffic: Traffic | None = None
        self.picture: Console | None = None
        self.memory_mb = 0.0
        self.names: dict[str, str] = {}

    def tell(self, line: str, style: str = "") -> None:
        """Add a line to the story."""
        stamp = f"{time.monotonic() - self._begun:5.1f} s  "
        told = Text.assemble((stamp, "dim"), (line, style), no_wrap=True, overflow="ellipsis")
        self._story.append(told)

    def ended(self, rollout: RolloutView) -> None:
        """A rollout has ended; a rollback is the moment worth a picture."""
        self.rollout = rollout
        failed = next((v for v in rollout.gate_verdicts if v.outcome is not GateOutcome.PASS), None)
        why = brief(rollout.reason if failed is None else failed.reason)
        self.tell(
            f"release {rollout.name}: {rollout.outcome.replace('_', ' ')}: {why}",
            style=OUTCOME_STYLES.get(rollout.outcome, "bold"),
        )
        if self.picture is not None and rollout.outcome == "rolled_back":
            self.picture.print(self)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._head()]
        if self.status is not None:
            parts.append(self._replicas(self.status))
            parts += [self._split(service) for service in self.status.services]
        if self.rollout is not None:
            parts.append(
                Panel(panel(self.rollout, is_brief=True), title="rollout", title_align="left")
            )
        parts.append(Panel(Group(*self._story), title="what happened", title_align="left"))
        return Group(*parts)

    def _head(self) -> RenderableType:
        line = Text.assemble(("fairlead demo", "bold"), "   ", (self.act, "cyan"))
        line.append(f"   {time.monotonic() - self._begun:.0f} s", style="dim")
        line.append(f"   {self.memory_mb:.0f} MB of memory", style="dim")
        if self.traffic is not None:
            totals = self.traffic.totals
            line.append(f"   requests {totals.sent:,}")
            line.append(
                f"   lost {totals.failed}", style="bold red" if totals.failed else "bold green"
            )
        return line

    def _replicas(self, status: StatusView) -> RenderableType:
        line = Text("replicas  ", style="dim")
        for replica in status.replicas:
            style = STATE_STYLES.get(replica.state, "red")
            line.append(f"● {replica.id} {replica.state}   ", style=style)
        return line if status.replicas else Text("replicas  none yet", style="dim")

    def _split(self, service: ServiceView) -> RenderableType:
        if service.champion is None:
            return Text("traffic   no release serves yet", style="dim")
        grid = Table.grid(padding=(0, 1))
        share = service.share if service.canary else 0.0
        grid.add_row(
            Text("traffic  ", style="dim"),
            Text(f"champion {self._name(service.champion)} {1 - share:.0%}", style="green"),
            ProgressBar(total=1.0, completed=1 - share, width=40, complete_style="green",
                        finished_style="green", style="yellow"),
            Text(f"canary {self._name(service.canary)} {share:.0%}", style="yellow")
            if service.canary else Text("no canary", style="dim"),
        )  # fmt: skip
        if self.traffic is None:
            return grid
        return Group(grid, self._accuracy(self.traffic))

    def _accuracy(self, traffic: Traffic) -> Text:
        line = Text("customers ", style="dim")
        for digest, tally in list(traffic.by_release.items()):
            line.append(f"release {self._name(digest)}: ", style="dim")
            line.append(f"{tally.served:,} answers, {tally.right / tally.served:.0%} right   ")
        return line

    def _name(self, digest: str | None) -> str:
        return self.names.get(digest or "", short(digest or ""))


def summary(report: Report, program: str) -> RenderableType:
    """The table at the end, and what to type next; `program` is how fairlead is typed."""
    shown = table("=release", "=digest", "=outcome", ">served", "why")
    for release in report.releases:
        style = OUTCOME_STYLES.get(release.outcome, "bold")
        shown.add_row(
            release.name, short(release.digest), Text(release.outcome, style=style),
            f"{release.requests_served:,}", release.reason,
        )  # fmt: skip
    lost = report.requests.failed
    close = Text.assemble(
        f"{report.requests.sent:,} requests sent, ",
        (f"{lost} lost", "bold red" if lost else "bold green"),
        f"; a champion replica was killed under traffic and replaced in "
        f"{report.kill.replaced_s:.1f} s" if report.kill else "",
        f"; {report.seconds:.0f} s; {report.peak_memory_mb:.0f} MB of memory at most",
    )  # fmt: skip
    following = Text.assemble(
        ("\nnext, for a service of your own", "bold"),
        f"\n  {program} init      ", ("write a commented fairlead.yaml, then edit it", "dim"),
        f"\n  {program} up        ", ("run gateway, control and observer", "dim"),
        f"\n  {program} ship      ",
        ("build, gate and roll out the release, and follow it", "dim"),
    )  # fmt: skip
    return Group(Text("\nwhat the demo shipped", style="bold"), shown, Text(), close, following)
