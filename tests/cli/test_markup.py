"""Whatever people, models and engines wrote is printed as it is: brackets are no markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer

from cli.simulated_installation import Done, Run
from cli.test_follow import drawn, view
from fairlead.cli import lifecycle, monitor, root
from fairlead.cli.api import ControlClient
from fairlead.cli.demo.report import ReleaseReport, Report, RequestsReport
from fairlead.cli.demo.view import DemoView, summary
from fairlead.cli.options import say, table
from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.proposals import Proposal
from fairlead.control.acting.suite_versions import FreshCase, SuiteVersion
from fairlead.control.acting.tightenings import Tightening
from fairlead.control.bias.scoring_model import Differences, Scoring
from fairlead.control.bias.telling import BiasView, GapView
from fairlead.control.bias.tracking_views import MeasureView, TrackedView
from fairlead.control.drill.drill_views import DrillView
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.limits.key_views import KeyView, NewKey, TenantView
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.sample_views import Deleted, SampleView
from fairlead.control.views import (
    FiguresView,
    GateProgress,
    HistoryEntry,
    Noted,
    PlanStep,
    PlanView,
    RolloutView,
    ServiceView,
    SloView,
    StatusView,
)
from fairlead.control.watching.watch_views import (
    ActionView,
    AlertView,
    IncidentView,
    MonitorView,
    SilenceView,
    alert_views,
    incident_view,
)
from fairlead.control.world.hub import WorkerStatus
from fairlead.domain.errors import Unavailable
from fairlead.domain.fault import Fault
from fairlead.domain.quota import Quota
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.domain.verdicts import GateOutcome, GateVerdict, RolloutOutcome, RolloutVerdict
from fairlead.evaluation.stereotypes import Score
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change as Changed
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.matching import Matcher, Op
from fairlead.monitoring.silences import Silence
from fairlead.probing.model import Change, Difference, Note
from fairlead.probing.tracked_model import Run as ScoredRun
from fairlead.probing.tracked_model import Value

NASTY = r"[/x] [bold] :bug: \[/b]"
DIGEST = "sha256:" + "ab" * 32


def nasty_view(**changes: Any) -> RolloutView:
    """An ended rollout in which every text that somebody else wrote is nasty."""
    gates = [GateVerdict(NASTY + which, GateOutcome.FAIL, NASTY, {}) for which in "ab"]
    return view(
        service=NASTY, name=NASTY, reason=NASTY, state="gate_failed", outcome="gate_failed",
        gates=[GateProgress(NASTY, 1, 2, 0.5)], gate_verdicts=gates,
        verdict=RolloutVerdict(RolloutOutcome.WAIT, NASTY, {}),
        history=[HistoryEntry(0.0, "gate_failed", NASTY)], **changes,
    )  # fmt: skip


def nasty_status() -> StatusView:
    figures = FiguresView(NASTY, DIGEST, NASTY, 1, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1,
                          {NASTY: (1, 1.0)})  # fmt: skip
    slos = [SloView(NASTY, 1.0, None, None), SloView(NASTY, 1.0, 1.0, True)]
    live = LiveJudgingView(
        NASTY, DIGEST, 0.5, 3, True, 9.0, 5, 1, 6, 0.1, 100, 2.0, NASTY, NASTY
    )  # fmt: skip
    service = ServiceView(
        NASTY, DIGEST, NASTY, None, DIGEST, 0.5, NASTY, [figures], slos, live_judging=live
    )
    replica = ReplicaStatus("r-1", DIGEST, ReplicaState.FAILED, "", 0, 1, 0.0, 0, NASTY)
    worker = WorkerStatus(NASTY, 0, 1, 1, 0.0)
    return StatusView(NASTY, NASTY, 1, [worker], [replica], [service], 0.0, 1, 1, [nasty_alert()])


def nasty_probes() -> ProbesView:
    change = Change(1, 0.0, 30, 200.0, {NASTY: 200.0}, NASTY, (Difference(NASTY, NASTY, NASTY),))
    return ProbesView(
        service=NASTY, release=DIGEST, name=NASTY, state="changed", suite=DIGEST, cases=2,
        interval_s=60.0, rounds=30, reference_rounds=24, answered=0, evidence=200.0,
        evidence_at=100.0, due_at=0.0, sent_today=1, usd_today=0.0, sent_in_all=1, usd_in_all=0.0,
        usd_per_day=None, on_change="alert", is_diverted=True, model=NASTY, fingerprint=NASTY,
        trouble=NASTY, notes=(Note(0.0, NASTY),), change=change, accepted=(change,),
    )  # fmt: skip


def nasty_bias() -> BiasView:
    gap = GapView(
        attribute=NASTY, first=NASTY, group=NASTY, outcome="length", pairs=9, discordant=2,
        first_mean=1.0, other_mean=2.0, gap=1.0, gap_least=0.5, gap_most=2.0, evidence=9.0,
        evidence_at=5.0, found_at=0.0, examples=((NASTY, NASTY, NASTY, NASTY),),
    )  # fmt: skip
    return BiasView(
        NASTY, DIGEST, NASTY, "gaps", 9, 10, 1, 0.0, 1, 0.0, 1, 0.0, NASTY, NASTY, NASTY, (gap,)
    )


def nasty_tracked() -> TrackedView:
    value = Value("bias_ambiguous", 0.5, 0.4, 0.6, 9, 3)
    return TrackedView(
        NASTY,
        "bbq",
        DIGEST,
        NASTY,
        "worse",
        9,
        9,
        0.0,
        1,
        0.0,
        1,
        0.0,
        NASTY,
        NASTY,
        NASTY,
        DIGEST,
        NASTY,
        0.0,
        (value,),
        (MeasureView("bias_ambiguous", 9, 0.5, 9.0, 5.0, 0.0),),
        (
            ScoredRun(0.0, DIGEST, NASTY, 9, 1, 9, 0.0, (value,)),
            ScoredRun(0.0, DIGEST, NASTY, 9, 9, 9, 0.0),
        ),
    )


def nasty_scoring() -> Scoring:
    score = Score(NASTY, NASTY, 0.5, 0.4, 0.6, 9, 3)
    return Scoring(NASTY, DIGEST, NASTY, "bbq", DIGEST, 0.0, 1.0, 9, 9, 1, 0.5, NASTY, (score,))


def nasty_version() -> SuiteVersion:
    return SuiteVersion(
        id=NASTY, service=NASTY, release=DIGEST, at=0.0, alert=NASTY, policy=NASTY, why=NASTY,
        cases=(FreshCase(NASTY, NASTY, NASTY, NASTY, (NASTY,)), FreshCase(NASTY, NASTY, "")),
        minimum=0.8, incident=1, suites={NASTY: DIGEST}, kept_as=(NASTY,), ended_at=1.0,
        verdicts=(GateVerdict(NASTY, GateOutcome.FAIL, NASTY),), refused=(NASTY,),
    )  # fmt: skip


def nasty_desk() -> Desk:
    """An alert and its incident in which every text is nasty."""
    labels = (("monitor", NASTY), ("service", NASTY))
    found = Condition(
        labels, Severity.PAGE, NASTY, (Figure(NASTY, 2.0, NASTY, 1.0),), runbook=NASTY
    )
    look = Look(
        60.0, (found,), (found.seen_by,), changes=(Changed(0.0, NASTY, NASTY, labels),),
        events=(Event(1.0, NASTY, NASTY, labels, NASTY),),
    )  # fmt: skip
    silence = Silence(NASTY, (Matcher("monitor", Op.IS, NASTY),), 0.0, 1e9, NASTY, NASTY)
    return step(Desk(silences=(silence,)), Duties(), look).desk


def nasty_alert() -> AlertView:
    desk = nasty_desk()
    (found,) = alert_views(desk.alerts.values(), desk, 60.0)
    return msgspec.structs.replace(found, quotes=[NASTY])


def nasty_incident() -> IncidentView:
    return incident_view(nasty_desk().incidents[0], 60.0)


def nasty_drill() -> DrillView:
    return DrillView(
        id=NASTY, service=NASTY, fault=Fault("slow"), shadow=False, share=0.1, harm=1,
        scheduled=False, result="missed", state="rolled_back", reason=NASTY, advice=NASTY,
        by=NASTY, requests=1, users=1, copies=0, seconds=1.0, expected_requests=1, created_at=0.0,
        notes=[NASTY],
    )  # fmt: skip


NASTY_SILENCE = SilenceView(NASTY, [NASTY], 0.0, 1.0, NASTY, NASTY, NASTY, 1)
RECORD = {
    "id": "req_1", "started_at": 0.0, "service": NASTY, "release": DIGEST, "arm": "champion",
    "status": 502, "duration_ms": 1.0, "prompt_tokens": 1, "completion_tokens": 1, "error": NASTY,
}  # fmt: skip


def answer(_control: ControlClient, method: str, path: tuple[str, ...], *_rest: object) -> bytes:
    """What a control says in which everything is nasty."""
    given: object
    match (method, *path):
        case ("GET", "rollouts"):
            given = [nasty_view()]
        case ("GET", "status"):
            given = nasty_status()
        case ("GET", "records"):
            given = [RECORD]
        case ("GET", "keys"):
            given = [KeyView(NASTY, NASTY, 0.0, 0.0)]
        case ("POST", "keys"):
            given = NewKey("k", NASTY, NASTY)
        case ("DELETE" | "PUT", "keys", *_):
            given = KeyView(NASTY, NASTY, 0.0, 0.0, NASTY)
        case ("POST", "plans"):
            given = PlanView(
                NASTY, DIGEST, NASTY, NASTY, 1, 1, 1, 1.0, [PlanStep(0.1, 1.0)], 1, 1, 1.0, 1.0, 1,
                1.0, [], [NASTY],
            )  # fmt: skip
        case ("GET", "probes"):
            given = [nasty_probes()]
        case ("POST", "services", _, "probes", _):
            given = nasty_probes()
        case ("GET", "bias"):
            given = [nasty_bias()]
        case ("GET", "bias", "tracked") | ("POST", "services", _, "bias", "scores", "accept"):
            given = [nasty_tracked()]
        case ("POST", "services", _, "bias", "accept"):
            given = nasty_bias()
        case ("GET", "services", _, "bias", "scores"):
            given = [nasty_scoring()]
        case ("POST", "services", _, "bias", "scores"):
            given = nasty_scoring()
        case ("GET", "services", _, "bias", "differences"):
            given = [Differences(NASTY, "bbq", DIGEST, DIGEST, nasty_scoring().scores)]
        case ("GET", "drills"):
            given = [nasty_drill()]
        case ("GET", "drills", _) | ("POST", "services", _, "drills"):
            given = nasty_drill()
        case ("GET", "samples"):
            given = [
                SampleView("req_1", NASTY, "k", "u", 0.0, 1.0, [(NASTY, NASTY)], NASTY, True),
            ]
        case ("DELETE", "samples"):
            given = Deleted(1)
        case ("GET", "alerts"):
            given = [nasty_alert()]
        case ("GET", "alerts", _):
            given = nasty_alert()
        case ("GET", "incidents"):
            given = [nasty_incident().summary]
        case (_, "incidents", *_):
            given = nasty_incident()
        case ("GET", "silences"):
            given = [NASTY_SILENCE]
        case (_, "silences", *_):
            given = NASTY_SILENCE
        case ("GET", "monitors"):
            given = [MonitorView(NASTY, DIGEST, NASTY, NASTY, 1, 1.0, 1.0, NASTY, 1)]
        case ("POST", "monitors", *_):
            given = Noted(NASTY)
        case ("GET", "actions"):
            given = [
                ActionView(0.0, NASTY, NASTY, NASTY, NASTY, NASTY, NASTY, NASTY, 1.0, NASTY, NASTY)
            ]
        case ("GET", "proposals"):
            proposal = Proposal(
                NASTY, 0.0, NASTY, DIGEST, NASTY, NASTY, NASTY, 0.0, commands=(NASTY,)
            )
            given = [msgspec.structs.replace(proposal, feedback={NASTY: 1}, means={NASTY: 1.0})]
        case ("POST", "services", _, "undivert"):
            given = Diversion(NASTY, DIGEST, 0.0, NASTY, NASTY, (NASTY,))
        case ("POST", "services", _, "guardrails", _, "loosen"):
            given = Tightening(NASTY, DIGEST, NASTY, 0.0, NASTY, NASTY)
        case ("GET", "suites"):
            given = [nasty_version()]
        case (_, "suites", *_):
            given = nasty_version()
        case ("PUT", "tenants", _):
            given = TenantView(NASTY, Quota(), (NASTY,))
        case _:
            given = nasty_view()
    return msgspec.json.encode(given)


@pytest.fixture
def fairlead(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run a command against the nasty control."""
    monkeypatch.setattr(ControlClient, "of", lambda _paths: ControlClient("http://x:1", "t"))
    monkeypatch.setattr(ControlClient, "_call", answer)
    return run


ONLINE = [
    ("status",), ("records",), ("rollout", "list"), ("rollout", "show", "ro-1"),
    ("rollout", "follow", "ro-1"), ("rollout", "pause", "ro-1"), ("rollout", "resume", "ro-1"),
    ("rollout", "promote", "ro-1"), ("rollout", "abort", "ro-1"), ("rollback", "bank"),
    ("rollout", "approve", "ro-1"), ("rollout", "watch", "ro-1"), ("rollout", "plan"),
    ("keys", "create", "k"), ("keys", "list"), ("keys", "revoke", "k"), ("ship",),
    ("keys", "limit", "k"), ("keys", "tenant", "k"),
    ("ship", "--detach"), ("eval",), ("doctor",), ("probes", "show"), ("probes", "run", "bank"),
    ("bias", "show"), ("bias", "accept", "bank"), ("bias", "scores", "bank"),
    ("bias", "accept", "bank", "--scores"),
    ("bias", "scores", "bank", "--between", "a", "b"),
    ("bias", "score", "bank", "--no-wait", "--crows", "crows.csv"),
    ("probes", "accept", "bank"), ("samples", "list"), ("samples", "show", "req_1"),
    ("monitor", "proposals"), ("monitor", "undivert", "bank"),
    ("monitor", "loosen", "bank", "secrets"),
    ("drill", "history"), ("drill", "--fault", "slow", "--service", "bank"),
    ("alerts",), ("alerts", "show", "ab"), ("incidents",), ("incidents", "show", "1"),
    ("incidents", "export", "1"), ("incidents", "close", "1", "--words", "x"),
    ("incidents", "note", "1", "--words", "x"), ("incidents", "merge", "1", "2"),
    ("silences",), ("silences", "list"), ("silences", "end", "si-1"),
    ("silences", "add", "a=b", "--for", "2h", "--why", "x"),
    ("suite", "list"), ("suite", "show", "sv-1"), ("suite", "refuse", "sv-1", "--why", "x"),
    ("monitor", "list"), ("monitor", "accept", "bank", "slo"), ("monitor", "actions"),
]  # fmt: skip
OFFLINE = [
    ("init",), ("release", "build"), ("release", "list"), ("release", "show"), ("release", "diff"),
    ("release", "verify"), ("release", "gc"), ("feedback",), ("up",), ("demo",),
    ("gateway", "run"), ("gateway", "check"),
    ("gateway", "key"), ("gateway", "import"), ("gateway", "restart"), ("rollout", "replay"),
    ("judge", "check"), ("rollout", "export"), ("telemetry", "query"), ("telemetry", "status"),
    ("monitor", "rules"), ("monitor", "notify"), ("monitor", "dashboards"),
    ("monitor", "cases"),
]  # fmt: skip
SAYS_NOTHING_OF_OTHERS = [
    ("schema",), ("down",), ("samples", "delete"), ("bias", "score"),
    ("monitor", "vectors"),
]  # fmt: skip


def test_every_printing_command_is_tried_here() -> None:
    def paths(command: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        children = getattr(command, "commands", None)
        if children is None:
            return [path]
        return [found for name, child in children.items() for found in paths(child, (*path, name))]

    known = paths(typer.main.get_command(root.app), ())
    tried = [*ONLINE, *OFFLINE, *SAYS_NOTHING_OF_OTHERS]
    assert [path for path in known if not any(t[: len(path)] == path for t in tried)] == []


@pytest.mark.parametrize("arguments", ONLINE, ids=" ".join)
def test_what_control_tells_is_printed_as_it_is(
    fairlead: Callable[..., Done], project: Path, arguments: tuple[str, ...]
) -> None:
    state = project / "[/b]"
    (project / "crows.csv").write_text(
        "id,sent_more,sent_less,stereo_antistereo,bias_type\n1,a,b,stereo,age\n"
    )
    done = fairlead(*arguments, "--state", state)
    says_ids_alone = arguments[0] == "rollout" and arguments[1] in (
        "pause", "resume", "promote", "abort", "approve",
    )  # fmt: skip
    if arguments == ("ship", "--detach") or arguments[0] == "doctor":
        assert "[/b]" in done.out
    elif arguments == ("incidents", "export", "1"):
        assert "\\[/x\\] \\[bold\\] :bug: " in done.out, "as a page in which it is no markup"
    elif not says_ids_alone:
        assert NASTY in done.out


@pytest.mark.parametrize("width", ["80", "240"])
@pytest.mark.parametrize("arguments", [("rollout", "list"), ("status",), ("records",)])
def test_tables_of_any_width_take_it(
    fairlead: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, arguments: Any, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert "[/x]" in fairlead(*arguments).out


def test_releases_with_brackets_in_everything_are_built_shown_and_compared(
    run: Run, project: Path
) -> None:
    manifest = project / "fairlead.yaml"
    first = manifest.read_text()
    prompt = {"system": NASTY, "user": "[INST]{input}[/INST]"}
    second = first.replace("name: first", f"name: second\n  prompt: {json.dumps(prompt)}")
    state = ("--state", project / "[/b]")
    for text in (first, second):
        manifest.write_text(text)
        assert run("release", "build", *state).code == 0
    assert run("release", "list", *state).code == 0
    assert "[INST]" in run("release", "show", "second", *state).out
    for pair in (("first", "second"), ("second", "first")):
        differences = run("release", "diff", *pair, *state).out
        assert NASTY in differences
        assert "[/INST]" in differences
    assert "everything matches" in run("release", "verify", *state).out
    assert run("release", "gc", *state).code == 0
    assert "[/x]" in run("release", "show", "[/x]", *state).err
    assert "[/b]" in run("doctor", *state).out


def test_what_is_typed_is_printed_as_it_is(run: Run, project: Path) -> None:
    (project / "[").mkdir()
    file = project / "[" / "b].yaml"
    assert "[/b].yaml" in run("init", "--service", "a", "--file", file).out
    assert "[/b].yaml" in run("init", "--service", "a", "--file", file).err
    assert "[/x]" in run("init", "--service", "[/x]").err
    assert "[/x]" in run("[/x]").err
    assert "[/b]" in run("feedback", "[/x]", "[/y]", "--key", "k", "--state", "[/b]").err
    assert "[/b]" in run("demo", "--json", "[/b]/none/x").err
    assert run("up", "--workers", "[/b]").code == 2
    assert "[/x]" in run("gateway", "key", "--name", "[/x]").err
    assert "[/b]" in run("gateway", "restart", "--state", "[/b]").err
    assert "[/b]" in run("judge", "check", "x", "--file", "[/b]").err
    assert "[/x]" in run("rollout", "export", "[/x]").err
    assert "[/b]" in run("telemetry", "query", "SELECT 1", "--state", "[/b]").err
    assert "[/b]" in run("telemetry", "status", "--state", "[/b]").err
    for command in ("rules", "notify"):
        assert "[/b]" in run("monitor", command, "-f", "[/b]").err
    for command in ("run", "check"):
        assert "[/b]" in run("gateway", command, "--config", "[/b]").err
    assert "[/b]" in run("gateway", "import", "--from", "litellm", "[/b]").err


def test_why_a_test_alert_was_not_sent_is_printed_as_it_is(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_given: object) -> str:
        return NASTY

    monkeypatch.setattr(monitor, "_tested", refused)
    manifest = project / "fairlead.yaml"
    route = "monitoring: {routes: [{name: a, to: {kind: webhook, url: 'https://a.example/x'}}]}\n"
    manifest.write_text(manifest.read_text() + route)
    assert NASTY in run("monitor", "notify").out


def test_an_error_that_ends_in_a_backslash_before_brackets_is_printed_as_it_is(run: Run) -> None:
    assert r"a\[/b]" in run("status", "--state", r"a\[/b]").err


def test_up_says_as_it_is_why_control_does_not_come_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_given: object, **_named: object) -> None:
        raise Unavailable(NASTY)

    monkeypatch.setattr(ControlClient, "post", refuse)
    monkeypatch.setattr(lifecycle, "READY_TIMEOUT_S", -1.0)
    paths: Any = SimpleNamespace(read_token=lambda: "t", logs=Path("/[/b]"))
    supervisor: Any = SimpleNamespace(info=SimpleNamespace(control_url="http://x:1"))
    lifecycle._greet(paths, supervisor)
    told = capsys.readouterr().err
    assert NASTY in told
    assert "/[/b]/control.log" in told


def test_the_demo_draws_it_as_it_is() -> None:
    demo = DemoView()
    demo.status, demo.names = nasty_status(), {DIGEST: NASTY}
    demo.tell(NASTY)
    demo.ended(nasty_view())
    assert drawn(demo).count(NASTY) > 4
    release = ReleaseReport(NASTY, DIGEST, "promoted", 1, NASTY, [], None)
    told = summary(Report([release], RequestsReport(1, 0, 0, []), None, 1.0, 1.0), NASTY)
    assert drawn(told).count(NASTY) == 5


def test_a_message_and_a_table_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY, (NASTY, "bold"))
    shown = table(NASTY, f"={NASTY}", f">{NASTY}", f"~{NASTY}")
    shown.add_row(*[NASTY] * 4)
    assert capsys.readouterr().out == NASTY * 2 + "\n"
    assert drawn(shown).count(NASTY) == 8
