"""Commands on a running installation: what they do, what they print, how they exit."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.simulated_installation import TOKEN, Done, Installation, Run
from fairlead.app.state import UpInfo, write_private
from fairlead.cli.api import ControlClient
from fairlead.control.shipping import capacity
from fairlead.control.views import RolloutView, StatusView
from fairlead.domain.errors import Unavailable
from support.waiting import wait_until

Fairlead = Callable[..., Done]


@pytest.fixture
def fairlead(run: Run, installation: Installation) -> Iterator[Fairlead]:
    """Run a command on the installation; the replica answers rightly again after the test."""
    answer = installation.replica.answer
    yield lambda *arguments: run(*arguments, "--state", installation.paths.root)
    installation.replica.answer = answer


@pytest.fixture
def service(project: Path, request: pytest.FixtureRequest) -> str:
    """A service of this test alone, with questions of its own: answers are kept by release and
    case, whatever the service. The project's manifest is of it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    manifest = project / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("service: shop", f"service: {name}"))
    suite = project / "suite.csv"
    suite.write_text(suite.read_text().replace("say ", f"{name} say "))
    return name


def edit(project: Path, old: str, new: str) -> None:
    manifest = project / "fairlead.yaml"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))


def second_release(project: Path) -> None:
    """Change the manifest to another release of the same service."""
    edit(project, "name: first", "name: second")
    edit(project, "temperature: 0", "temperature: 1")


def shipped(fairlead: Fairlead) -> RolloutView:
    done = fairlead("ship", "--json")
    assert done.code == 0, done
    return msgspec.json.decode(done.out, type=RolloutView)


def canary(fairlead: Fairlead, project: Path) -> str:
    """Ship a second release and wait for its canary; its rollout."""
    if "name: first" in (project / "fairlead.yaml").read_text():
        first = fairlead("ship", "--json")
        assert first.code in (0, 7), first
    second_release(project)
    done = fairlead("ship", "--detach", "--json")
    assert done.code == 0
    rollout = str(json.loads(done.out)["id"])
    wait_for(fairlead, rollout, "judging")
    return rollout


def champion(fairlead: Fairlead, service: str) -> str:
    """Digest of the release that serves."""
    status = json.loads(fairlead("status", "--json").out)
    (mine,) = (s for s in status["services"] if s["name"] == service)
    return str(mine["champion"])


def wait_for(fairlead: Fairlead, rollout: str, state: str) -> None:
    """Until the rollout is in this state."""

    def is_in_it() -> bool:
        view = json.loads(fairlead("rollout", "show", rollout, "--json").out)
        assert view["state"] == state or view["outcome"] == "running", view
        return bool(view["state"] == state)

    wait_until(is_in_it, f"{rollout} is {state}")


def test_ship_builds_gates_and_promotes_a_first_release(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    done = fairlead("ship")
    assert done.code == 0
    assert "built release first" in done.out
    assert re.search(r"gate quality pass +6 of 6 right", done.out)
    assert "promoted: first release" in done.out
    again = fairlead("ship")
    assert again.code == 0
    assert "serves" in again.out
    assert "nothing to do" in again.out
    edit(project, "queue: 5", "queue: 6")
    assert "its settings are changed" in fairlead("ship").out
    assert json.loads(fairlead("ship", "--json").out)["changed"] is False


def test_a_failed_gate_is_exit_code_3(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    installation.replica.answer = lambda _text: "no idea"
    done = fairlead("ship")
    assert done.code == 3
    assert "gate failed: gate quality: fail" in done.out
    assert fairlead("status").code == 0


def test_eval_runs_the_gates_and_ships_nothing(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    done = fairlead("eval", "--json")
    assert done.code == 0
    view = json.loads(done.out)
    assert (view["outcome"], view["champion"]) == ("gates_passed", None)
    assert "gates passed" in fairlead("eval").out
    installation.replica.answer = lambda _text: "no idea"
    assert fairlead("eval").code == 0, "what was answered is not asked again"
    second_release(project)
    assert fairlead("eval").code == 3
    status = json.loads(fairlead("status", "--json").out)
    (mine,) = (s for s in status["services"] if s["name"] == service)
    assert mine["champion"] is None


def test_a_canary_is_listed_paused_resumed_and_promoted_by_hand(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    rollout = canary(fairlead, project)
    assert fairlead("rollout", "pause", rollout).out == f"{rollout}: judging (paused)\n"
    assert "judging (paused)" in fairlead("rollout", "list", "-s", service).out
    assert fairlead("rollout", "resume", rollout).out == f"{rollout}: judging\n"
    status = fairlead("status").out
    assert f"at 50% ({rollout})" in status
    assert fairlead("ship").code == 7
    assert fairlead("rollout", "promote", rollout).code == 0
    followed = fairlead("rollout", "follow", rollout)
    assert followed.code == 0
    assert "promoted by hand" in followed.out
    listed = json.loads(fairlead("rollout", "list", "-s", service, "--json").out)
    assert [row["outcome"] for row in listed] == ["promoted", "promoted"]
    shown = fairlead("rollout", "show", rollout).out
    assert "gate quality: pass" in shown
    assert "verdict wait: no canary unit has settled yet" in shown
    assert "switching" in shown


def test_an_aborted_canary_is_exit_code_4_and_commands_after_the_end_7(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    rollout = canary(fairlead, project)
    assert fairlead("rollout", "abort", rollout).code == 0
    followed = fairlead("rollout", "follow", rollout)
    assert followed.code == 4
    assert "rolled back: aborted by hand" in followed.out
    for command in ("pause", "resume", "promote", "abort"):
        done = fairlead("rollout", command, rollout)
        assert done.code == 7
        assert "has ended" in done.err


def test_a_rollout_aborted_before_any_traffic_is_exit_code_10(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    waiting = threading.Event()
    installation.replica.answer = lambda text: "x" if waiting.wait(60) else ""
    rollout = json.loads(fairlead("ship", "--detach", "--json").out)["id"]
    assert fairlead("rollout", "abort", rollout).code == 0
    waiting.set()
    assert fairlead("rollout", "follow", rollout).code == 10


def test_rollback_goes_back_and_is_a_success(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    first = shipped(fairlead)
    nowhere = fairlead("rollback", service)
    assert nowhere.code == 7
    assert "no earlier release" in nowhere.err
    rollout = canary(fairlead, project)
    assert fairlead("rollout", "promote", rollout).code == 0
    assert fairlead("rollout", "follow", rollout).code == 0
    back = fairlead("rollback", service, "--why", "complaints")
    assert back.code == 0
    assert "promoted: complaints" in back.out
    assert "complaints" in fairlead("rollout", "list", "-s", service).out
    assert champion(fairlead, service) == first.release
    again = fairlead("rollback", service)
    assert again.code == 7
    assert "no earlier release" in again.err
    assert "--to: second" in again.err


def test_rollback_from_a_canary_goes_on_to_the_release_named(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    """It is followed to the end; a release that never was champion is refused before."""
    first = shipped(fairlead)
    rollout = canary(fairlead, project)
    assert fairlead("rollout", "promote", rollout).code == 0
    assert fairlead("rollout", "follow", rollout).code == 0
    second = champion(fairlead, service)
    edit(project, "name: second", "name: third")
    edit(project, "temperature: 1", "temperature: 0.5")
    third = json.loads(fairlead("ship", "--detach", "--json").out)["id"]
    wait_for(fairlead, third, "judging")
    refused = fairlead("rollback", service, "--to", "third")
    assert refused.code == 6
    assert "never been its champion" in refused.err
    assert champion(fairlead, service) == second
    back = fairlead("rollback", service, "--to", "first", "--why", "complaints")
    assert back.code == 0
    assert "rolled back: complaints" in back.out
    assert "promoted: complaints" in back.out
    assert champion(fairlead, service) == first.release


def test_rollback_of_a_rollout_before_any_traffic_is_a_success(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    """It is ended, and the service is as it was."""
    first = shipped(fairlead)
    waiting = threading.Event()
    installation.replica.answer = lambda text: "x" if waiting.wait(60) else ""
    second_release(project)
    rollout = json.loads(fairlead("ship", "--detach", "--json").out)["id"]
    back = fairlead("rollback", service, "--why", "complaints")
    waiting.set()
    assert back.code == 0
    shown = fairlead("rollout", "show", rollout).out
    assert "ABORTED: " in shown
    assert "Complaints." in shown
    assert champion(fairlead, service) == first.release


def test_status_shows_services_replicas_and_workers(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    shipped(fairlead)
    out = fairlead("status").out
    assert "2 workers" in out
    assert service in out
    assert "champion first" in out
    assert "ready" in out
    status = json.loads(fairlead("status", "--json").out)
    assert {"version", "gateway_url", "workers", "replicas", "services"} <= set(status)


def test_keys_are_made_shown_once_and_revoked(fairlead: Fairlead) -> None:
    made = fairlead("keys", "create", "app one").out
    (key,) = re.findall(r"fl-\S+", made)
    assert "only time" in made
    as_json = json.loads(fairlead("keys", "create", "two", "--json").out)
    assert as_json["key"].startswith("fl-")
    listed = fairlead("keys", "list").out
    assert "app one" in listed
    assert key not in listed
    assert {"app one", "two"} <= {
        row["name"] for row in json.loads(fairlead("keys", "list", "--json").out)
    }
    assert fairlead("keys", "create", "two").code == 7
    assert fairlead("keys", "create", "").code == 2
    assert "revoked two" in fairlead("keys", "revoke", "two").out
    assert fairlead("keys", "revoke", "two").code == 6


def test_limits_of_keys_and_tenants_are_set_shown_changed_and_taken_away(
    fairlead: Fairlead,
) -> None:
    fairlead("keys", "create", "lim", "--tenant", "acme", "--requests-per-minute", 60,
             "--usd-per-month", 2.5)  # fmt: skip
    listed = json.loads(fairlead("keys", "list", "--json").out)
    (key,) = [row for row in listed if row["name"] == "lim"]
    assert key["tenant"] == "acme"
    assert key["limits"] == {"requests_per_minute": 60, "usd_per_month": 2.5}
    done = fairlead("keys", "limit", "lim", "--requests-per-minute", 0, "--tokens-per-day", 9)
    assert "of acme: 9 tokens per day, 2.5 usd per month" in done.out
    assert "acme: 5 requests per minute; keys: lim" in (
        fairlead("keys", "tenant", "acme", "--requests-per-minute", 5).out
    )
    shown = json.loads(fairlead("keys", "tenant", "acme", "--json").out)
    assert shown == {"name": "acme", "limits": {"requests_per_minute": 5}, "keys": ["lim"]}
    assert fairlead("keys", "limit", "nobody", "--tokens-per-day", 9).code == 6
    assert fairlead("keys", "limit", "lim", "--tokens-per-day", "-9").code == 2
    assert fairlead("keys", "create", "bad", "--tenant", "a/b").code == 2


def test_records_are_shown_as_a_table_or_as_json(fairlead: Fairlead) -> None:
    assert "request" in fairlead("records").out
    assert json.loads(fairlead("records", "--json", "--errors", "--limit", 5).out) == []
    assert fairlead("records", "--limit", 0).code == 2
    assert fairlead("records", "--release", "nothing").code == 6
    unknown = fairlead("records", "--rollout", "nope")
    assert unknown.code == 6
    assert unknown.err.startswith("error: there is no rollout 'nope'")


@pytest.mark.parametrize(
    "arguments",
    [("rollout", "show", "ro-none"), ("rollout", "follow", "ro-none"),
     ("rollout", "watch", "ro-none"), ("rollout", "watch", "no-service"),
     ("rollout", "pause", "ro-none"), ("rollback", "nothing")],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_there_is_exit_code_6(fairlead: Fairlead, arguments: tuple[str, ...]) -> None:
    done = fairlead(*arguments)
    assert done.code == 6
    assert done.err.startswith("error: there is no ")


def test_doctor_finds_a_running_installation_well(fairlead: Fairlead) -> None:
    findings = json.loads(fairlead("doctor", "--json").out)
    assert [f for f in findings if not f["ok"]] == []
    assert {f["what"] for f in findings} >= {"running", "gateway workers", "observer"}


def test_a_wrong_token_is_exit_code_5(fairlead: Fairlead, installation: Installation) -> None:
    write_private(installation.paths.token, b"stale")
    try:
        done = fairlead("status")
    finally:
        write_private(installation.paths.token, TOKEN.encode())
    assert done.code == 5
    assert "needs its token" in done.err


def test_feedback_says_when_the_gateway_does_not_answer_or_the_value_is_none(
    fairlead: Fairlead,
) -> None:
    assert fairlead("feedback", "id", "true", "--key", "k").code == 5
    done = fairlead("feedback", "id", "maybe", "--key", "k")
    assert done.code == 2
    assert "neither true, false nor a number" in done.err
    assert fairlead("feedback", "id", "true").code == 2, "the key is required"


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "€", "a\x7fb"])
def test_a_key_that_cannot_be_one_is_exit_code_2(fairlead: Fairlead, key: str) -> None:
    done = fairlead("feedback", "id", "true", "--key", key)
    assert done.code == 2
    assert "characters that no key has" in done.err
    assert key not in done.err, "a key is not written to a terminal"


@pytest.mark.parametrize(
    ("status", "code"), [(202, 0), (400, 2), (401, 5), (404, 6), (413, 2), (429, 5), (503, 5),
                         (507, 9), (500, 5)],
)  # fmt: skip
def test_what_the_gateway_says_to_feedback_is_the_exit_code(
    fairlead: Fairlead, installation: Installation, status: int, code: int
) -> None:
    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = b'{"error":{"message":"as it is"}}'
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_given: object) -> None:
            """Not on the test's output."""

    info = installation.paths.read_up()
    assert info is not None
    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        there = msgspec.structs.replace(info, gateway_url=f"http://127.0.0.1:{server.server_port}")
        write_private(installation.paths.up, msgspec.json.encode(there))
        try:
            done = fairlead("feedback", "id", "true", "--key", "k")
        finally:
            write_private(installation.paths.up, msgspec.json.encode(info))
            server.shutdown()
            thread.join()
    assert done.code == code
    assert ("as it is" in done.err) == (code != 0)


@pytest.mark.parametrize(
    "arguments",
    [("rollout", "show", ""), ("rollout", "follow", ""), ("rollout", "abort", ""),
     ("rollback", ""), ("keys", "revoke", "")],
    ids=" ".join,
)  # fmt: skip
def test_an_empty_name_is_exit_code_2(fairlead: Fairlead, arguments: tuple[str, ...]) -> None:
    done = fairlead(*arguments)
    assert done.code == 2
    assert "an empty text names nothing" in done.err


def test_status_shows_an_installation_whose_release_is_damaged(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    blob = installation.paths.registry / "blobs" / "sha256" / shipped(fairlead).release[7:]
    before = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(b'{"artifactType":"\xff"}')
    try:
        done = fairlead("status")
        findings = json.loads(fairlead("doctor", "--json").out)
    finally:
        blob.write_bytes(before)
    assert done.code == 0
    assert service in done.out
    assert [f["what"] for f in findings if not f["ok"]] == ["registry"]
    assert blob.name in next(f["detail"] for f in findings if not f["ok"])


def test_status_and_doctor_show_what_keeps_a_service_from_being_served(
    fairlead: Fairlead, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause, and what to do, whatever characters are in it."""
    shipped(fairlead)
    trouble = "release [/x] cannot be read (build it again)"
    real = ControlClient.get

    def get(self: ControlClient, kind: type, *path: str, **more: Any) -> Any:
        view = real(self, kind, *path, **more)
        if not isinstance(view, StatusView):
            return view
        services = [msgspec.structs.replace(s, trouble=trouble) for s in view.services[:1]]
        return msgspec.structs.replace(view, services=services)

    monkeypatch.setattr(ControlClient, "get", get)
    assert trouble in fairlead("status").out
    done = fairlead("doctor")
    assert done.code == 5
    assert trouble in done.out


@pytest.mark.parametrize("answer", [b'{"id":"\xff"}', b"[" * 100_000, b"{"])
def test_an_answer_of_control_that_is_damaged_is_unavailable(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = ControlClient("http://127.0.0.1:9", "t")
    monkeypatch.setattr(control, "_call", lambda *_given: answer)
    with pytest.raises(Unavailable, match="cannot be read"):
        control.get(RolloutView, "rollouts", "x")


def test_down_refuses_to_signal_itself(
    run: Run, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    info = installation.paths.read_up()
    assert info is not None
    mine = UpInfo(os.getpid(), info.gateway_url, info.control_url)
    write_private(installation.paths.up, msgspec.json.encode(mine))
    try:
        assert run("down", "--state", installation.paths.root).code == 7
    finally:
        write_private(installation.paths.up, msgspec.json.encode(info))


def test_up_on_the_same_state_or_on_no_port_is_refused(
    run: Run, installation: Installation, tmp_path: Path
) -> None:
    done = run("up", "--state", installation.paths.root, "--port", 0, "--control-port", 0)
    assert done.code == 7
    assert "already up" in done.err
    assert run("up", "--state", tmp_path / "s", "--port", 99999).code == 2
    assert not (tmp_path / "s").exists()


def test_releases_in_use_are_never_collected(
    fairlead: Fairlead, installation: Installation, project: Path, service: str
) -> None:
    view = shipped(fairlead)
    report = json.loads(
        fairlead("release", "gc", "--dry-run", "--older-than-days", 0, "--json").out
    )
    assert view.release not in report["releases"]


def test_a_control_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        ControlClient("http://127.0.0.1:9", "t").get(RolloutView, "rollouts", "x")


def test_what_does_not_fit_is_refused_before_it_begins(
    fairlead: Fairlead, project: Path, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is asked for all the same; the plan says what it needs, and changes nothing."""
    done = fairlead("rollout", "plan")
    assert done.code == 0
    assert "more at the most" in done.out
    assert "for its weights of" in done.out
    small = tmp_path / "meminfo"
    small.write_text("MemTotal: 8 kB\nMemAvailable: 1 kB\n")
    monkeypatch.setattr(capacity, "_MEMINFO", small)
    done = fairlead("rollout", "plan", "--json")
    assert done.code == 7
    assert json.loads(done.out)["problems"][0].startswith("its weights need ")
    refused = fairlead("ship")
    assert refused.code == 7
    assert "does not fit: its weights need" in refused.err
    assert "--anyway" in refused.err
    assert json.loads(fairlead("rollout", "list", "-s", service, "--json").out) == []
    assert fairlead("ship", "--anyway").code == 0


def test_a_rollout_is_approved_from_the_command_line(
    fairlead: Fairlead, project: Path, service: str
) -> None:
    edit(project, "rollout:", "rollout:\n  approve_promotion: true")
    rollout = str(json.loads(fairlead("ship", "--detach", "--json").out)["id"])
    shown = ("rollout", "show", rollout)
    wait_until(lambda: "waits for a person at promote" in fairlead(*shown).out)
    assert fairlead("rollout", "approve", rollout).code == 0
    assert fairlead("rollout", "follow", rollout).code == 0
    assert fairlead("rollout", "approve", rollout).code == 7
    watched = fairlead("rollout", "watch", rollout)
    assert watched.code == 0
    assert "PROMOTED: release first" in watched.out
