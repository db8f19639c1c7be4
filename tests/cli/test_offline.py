"""Commands that need no running installation: their answers, their exit codes, their errors."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cli.simulated_installation import BANKING, Run
from fairlead import __version__
from fairlead.cli.shipping import prepare
from fairlead.domain.errors import InvalidInput, StorageFailed
from fairlead.manifest import load_manifest
from fairlead.observer.sink import SpoolCursor
from fairlead.registry import Registry
from fairlead.telemetry.store import TelemetryStore
from fairlead.wire.record import RequestRecord

COMMANDS = [
    "init", "schema", "up", "down", "ship", "status", "eval", "feedback", "records", "doctor",
    "demo", "rollback", "release", "rollout", "keys", "gateway",
]  # fmt: skip


def test_the_module_runs_as_a_program_and_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fairlead {__version__}\n", "")


def test_an_error_of_the_program_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "status", "--state", str(tmp_path / "none[1]")],
        capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    assert done.returncode == 5
    assert done.stdout == ""
    first, hint = done.stderr.strip().splitlines()
    assert first == f"error: fairlead is not running on {tmp_path / 'none[1]'}"
    assert "fairlead up" in hint


def test_a_reader_that_leaves_is_no_error(project: Path) -> None:
    """`fairlead schema | head -1`."""
    command = f"{sys.executable} -m fairlead schema | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "{"


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f" {command} " in done.out


@pytest.mark.parametrize("arguments", [("shp",), ("ship", "--flie", "x"), ("rollout", "show")])
def test_a_mistyped_command_line_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",), ("records",), ("down",), ("keys", "list"), ("keys", "create", "x"),
        ("rollout", "list"), ("rollout", "show", "x"), ("rollout", "follow", "x"),
        ("rollout", "pause", "x"), ("rollback", "x"), ("feedback", "id", "true", "--key", "k"),
        ("ship",), ("eval",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_without_a_running_up_exit_code_5_says_how_to_start_one(
    run: Run, project: Path, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, "--state", project / "none")
    assert done.code == 5
    assert "is not running" in done.err
    assert "fairlead up" in done.err
    assert not (project / "none").exists(), "asking makes nothing"


def test_init_writes_a_manifest_that_loads_once_its_files_are_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "My Shop!"
    (folder / "models").mkdir(parents=True)
    monkeypatch.chdir(folder)
    done = run("init")
    assert done.code == 0
    assert "fairlead ship" in done.out
    assert run("release", "build", "--state", tmp_path / "s").code == 2, "no model yet"
    (folder / "models" / "model.gguf").write_bytes((BANKING / "models" / "a.gguf").read_bytes())
    (folder / "suite.csv").write_text("input,expected\nhello,hi\n")
    manifest = load_manifest(folder / "fairlead.yaml")
    assert manifest.service == "my-shop"
    assert manifest.release.name == "first"


def test_init_leaves_a_file_that_is_there_as_it_is(run: Run, project: Path) -> None:
    before = (project / "fairlead.yaml").read_text()
    done = run("init")
    assert done.code == 7
    assert "it was left as it is" in done.err
    assert (project / "fairlead.yaml").read_text() == before


def test_init_refuses_what_cannot_be_a_service_or_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    assert run("init", "--service", "Not A Name", "--file", file).code == 2
    assert not file.exists()
    assert run("init", "--service", "ok", "--file", tmp_path / "none" / "x.yaml").code == 9


def test_schema_is_a_json_schema_that_takes_the_examples(run: Run) -> None:
    import yaml

    schema = json.loads(run("schema").out)
    Draft202012Validator.check_schema(schema)
    for name in "abcd":
        document = yaml.safe_load((BANKING / f"release-{name}.yaml").read_text())
        Draft202012Validator(schema).validate(document)


# The registry


def test_a_release_is_built_listed_shown_compared_verified_and_collected(
    run: Run, project: Path
) -> None:
    state = ("--state", project / "state")
    built = json.loads(run("release", "build", "--json", *state).out)
    assert built["digest"].startswith("sha256:")
    again = run("release", "build", *state)
    assert again.out.startswith(f"{built['digest']}  shop/first")

    manifest = project / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("temperature: 0", "temperature: 0.5"))
    (project / "fairlead.yaml").write_text(manifest.read_text().replace("first", "second"))
    other = json.loads(run("release", "build", "--json", *state).out)
    assert other["digest"] != built["digest"]

    assert [e["name"] for e in json.loads(run("release", "list", "--json", *state).out)] == [
        "first", "second",
    ]  # fmt: skip
    listed = run("release", "list", *state).out
    assert "first" in listed
    assert "b.gguf" in listed
    assert json.loads(run("release", "list", "-s", "other", "--json", *state).out) == []

    shown = json.loads(run("release", "show", "second", "--json", *state).out)
    assert shown["release"]["sampling"] == {"temperature": 0.5}
    assert built["digest"] in run("release", "show", built["digest"][7:19], *state).out

    differences = json.loads(run("release", "diff", "first", "second", "--json", *state).out)
    assert [(d["path"], d["before"], d["after"]) for d in differences] == [
        ("sampling.temperature", "0.0", "0.5")
    ]
    assert "sampling.temperature" in run("release", "diff", "first", "second", *state).out
    assert "the same release" in run("release", "diff", "first", "first", *state).out

    assert json.loads(run("release", "verify", "--json", *state).out) == []
    assert "everything matches" in run("release", "verify", *state).out

    kept = json.loads(run("release", "gc", "--json", *state).out)
    assert kept["releases"] == [], "young releases stay"
    recent = json.loads(run("release", "gc", "--older-than-days", 0, "--json", *state).out)
    assert recent["releases"] == [], "what was just built may be about to be shipped"
    index = project / "state" / "registry" / "index.json"
    listing = json.loads(index.read_text())
    for entry in listing["manifests"]:
        entry["annotations"]["org.opencontainers.image.created"] = "2020-01-01T00:00:00+00:00"
    index.write_text(json.dumps(listing))
    would = run("release", "gc", "--dry-run", "--older-than-days", 0, *state)
    assert "would free" in would.out
    gone = json.loads(run("release", "gc", "--older-than-days", 0, "--json", *state).out)
    assert set(gone["releases"]) == {built["digest"], other["digest"]}
    assert json.loads(run("release", "list", "--json", *state).out) == []


def test_damage_is_exit_code_8_and_names_the_blob(run: Run, project: Path) -> None:
    state = ("--state", project / "state")
    run("release", "build", *state)
    blobs = project / "state" / "registry" / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)
    done = run("release", "verify", *state)
    assert done.code == 8
    assert largest.name in done.err
    problems = json.loads(run("release", "verify", "--json", *state).out)
    assert [p["where"] for p in problems] == [f"sha256:{largest.name}"]
    assert run("doctor", *state).code == 5


def test_an_unknown_release_is_exit_code_6(run: Run, project: Path) -> None:
    for command in (("show", "x"), ("diff", "x", "y"), ("verify", "x")):
        assert run("release", *command, "--state", project / "state").code == 6


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("service: shop", "service: [shop", "fairlead.yaml:"),
        ("minimum:", "minimun:", "minimum"),
        ("models/b.gguf", "models/z.gguf", "models/z.gguf"),
        ("share: 50%", "share: plenty", "share"),
    ],
)
def test_a_mistake_in_the_manifest_is_exit_code_2_with_its_place(
    run: Run, project: Path, old: str, new: str, told: str
) -> None:
    manifest = project / "fairlead.yaml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    done = run("release", "build", "--state", project / "state")
    assert done.code == 2
    assert told in done.err
    assert "fairlead.yaml:" in done.err


def test_a_suite_that_its_scorer_cannot_score_leaves_the_registry_alone(project: Path) -> None:
    manifest = project / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("scorer: exact", "scorer: numeric"))
    (project / "suite.csv").write_text("input,expected\nhello,hi\n")
    registry = Registry(project / "registry")
    with pytest.raises(InvalidInput, match="number"):
        prepare(registry, load_manifest(manifest))
    assert registry.list() == []


def test_a_missing_manifest_is_told(run: Run, tmp_path: Path) -> None:
    done = run("release", "build", "-f", tmp_path / "none.yaml", "--state", tmp_path / "s")
    assert done.code == 2
    assert "none.yaml" in done.err


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", "x"), ("diff", "x", "y"), ("verify",), ("verify", "x"), ("gc",)],
    ids=" ".join,
)
def test_looking_into_a_registry_that_is_not_there_makes_none(
    run: Run, project: Path, arguments: tuple[str, ...]
) -> None:
    done = run("release", *arguments, "--state", project / "typo")
    assert done.code == 6
    assert "there is no registry in" in done.err
    assert "fairlead release build" in done.err
    assert not (project / "typo").exists()


# doctor


@pytest.mark.parametrize("which", ["manifest", "index", "no index"])
def test_doctor_shows_a_damaged_registry_and_goes_on(run: Run, project: Path, which: str) -> None:
    state = project / "state"
    digest = json.loads(run("release", "build", "--json", "--state", state).out)["digest"]
    registry = state / "registry"
    if which == "manifest":
        (registry / "blobs" / "sha256" / digest[7:]).chmod(0o644)
        (registry / "blobs" / "sha256" / digest[7:]).write_bytes(b'{"artifactType":"\xff"}')
        assert run("release", "list", "--state", state).code == 8
    else:
        (registry / "index.json").write_bytes(b'{"manifests":[{"digest":"\xff"}]}')
    if which == "no index":
        (registry / "index.json").unlink()
        (registry / "oci-layout").unlink()
    findings = {f["what"]: f for f in json.loads(run("doctor", "--json", "--state", state).out)}
    assert not findings["registry"]["ok"]
    assert "running" in findings
    assert run("doctor", "--state", state).code == 5


def test_doctor_says_of_each_thing_whether_it_is_well(run: Run, project: Path) -> None:
    state = project / "state"
    run("release", "build", "--state", state)
    done = run("doctor", "--state", state)
    assert done.code == 5, "nothing runs"
    lines = {line.split()[1].rstrip(":"): line.split()[0] for line in done.out.splitlines()
             if line.startswith(("ok", "bad"))}  # fmt: skip
    assert lines == {
        "python": "ok", "llama.cpp": "ok", "gateway": "ok", "disk": "ok", "state": "ok",
        "registry": "ok", "running": "bad",
    }  # fmt: skip
    assert "fairlead up" in done.out
    findings = json.loads(run("doctor", "--json", "--state", state).out)
    assert [f["what"] for f in findings if not f["ok"]] == ["running"]


def test_doctor_says_how_telemetry_stands(run: Run, project: Path) -> None:
    state = project / "state"
    run("release", "build", "--state", state)

    def finding() -> dict[str, Any] | None:
        found = json.loads(run("doctor", "--json", "--state", state).out)
        return next((each for each in found if each["what"] == "telemetry"), None)

    (state / "telemetry").mkdir()
    assert finding() is None, "nothing was taken in yet"
    record = RequestRecord(
        "r1", "bank", "sha256:a", "champion", "bank-1", "app", "u", 0.0, "", 0, "chat", False, 200,
        "", time.time(), 5.0, -1.0, 50.0, 10, 5, 1,
    )  # fmt: skip
    store = TelemetryStore(state / "telemetry", keep_s=1e9, clock=time.time)
    try:
        store.take_in([record], [], {"boot": SpoolCursor(offset=1)})
    finally:
        store.close()
    whole = finding()
    assert whole is not None
    assert whole["ok"]
    assert whole["detail"].startswith("1 records in 1 files")
    (state / "telemetry" / "catalogue.db").write_bytes(b"no database at all" * 100)
    damaged = finding()
    assert damaged is not None
    assert not damaged["ok"]


def test_doctor_sees_a_state_folder_that_others_can_read(run: Run, project: Path) -> None:
    state = project / "state"
    run("release", "build", "--state", state)
    state.chmod(0o755)
    findings = {f["what"]: f for f in json.loads(run("doctor", "--json", "--state", state).out)}
    assert not findings["state"]["ok"]
    assert "chmod 700" in findings["state"]["advice"]


def test_doctor_makes_nothing_where_there_is_nothing(run: Run, project: Path) -> None:
    done = run("doctor", "--state", project / "none")
    assert done.code == 5
    assert "does not exist" in done.out
    assert not (project / "none").exists()


# demo


def test_the_demo_says_at_once_that_its_result_could_not_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.cli import demo_command

    def play(*_given: object) -> None:
        raise AssertionError("the demo began")

    monkeypatch.setattr(demo_command, "_play", play)
    for option in ("--json", "--picture"):
        done = run("demo", option, tmp_path / "none" / "x")
        assert done.code == 2
        assert "there is no folder" in done.err
        assert run("demo", option, tmp_path).code == 2
    monkeypatch.setattr(demo_command.os, "access", lambda *_given: False)
    assert run("demo", "--json", tmp_path / "x").code == 9


def test_a_report_that_the_disk_refuses_is_told(tmp_path: Path) -> None:
    from fairlead.cli.demo_command import _write

    with pytest.raises(StorageFailed, match=r"x\.json"):
        _write(tmp_path / "gone" / "x.json", b"")


@pytest.mark.parametrize("step", ["start", "play"])
def test_an_interrupted_demo_leaves_no_folder_and_stops_what_it_began(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whenever the interrupt comes, the handlers are there before the folder is."""
    import signal

    from fairlead.cli import demo_command
    from fairlead.cli.demo import scenario

    before = {number: signal.getsignal(number) for number in demo_command.ENDING}
    monkeypatch.setattr(demo_command.tempfile, "gettempdir", lambda: str(tmp_path))
    stopped = []

    def start(self: scenario.Scenario) -> None:
        self._paths.create()
        assert [path.name[:14] for path in tmp_path.iterdir()] == ["fairlead-demo-"]
        if step == "start":
            signal.raise_signal(signal.SIGTERM)

    async def play(_self: scenario.Scenario) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenario.Scenario, "start", start)
    monkeypatch.setattr(scenario.Scenario, "play", play)
    monkeypatch.setattr(scenario.Scenario, "stop", lambda _self: stopped.append(1))
    try:
        assert run("demo").code == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (list(tmp_path.iterdir()), stopped) == ([], [1])


def test_an_interrupt_while_the_commands_are_loaded_is_exit_code_130() -> None:
    code = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'fairlead.cli.root':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from fairlead.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


def test_the_demo_takes_a_folder_of_questions_that_is_one(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--data", tmp_path)
    assert done.code == 2
    assert "test.csv" in done.err
    assert run("demo", "--data", tmp_path / "none").code == 2


def test_real_questions_are_divided_into_a_suite_and_traffic(tmp_path: Path) -> None:
    """Always the same division, nothing in both, and the suite only over what it covers."""
    from fairlead.cli.demo.example import SUITE_CASES, Example

    intents = json.loads((BANKING / "intents.json").read_text())
    uncovered = set(intents["uncovered_by_suite"])
    with (tmp_path / "test.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "category"])
        for intent in intents["intents"]:
            rows.writerows([f"{intent} {number}", intent] for number in range(10))
    example, again = Example(tmp_path), Example(tmp_path / "test.csv")
    manifest = example.manifest("a", tmp_path)
    (gate,) = manifest.gates
    with gate.suite.open(newline="") as file:
        suite = list(csv.DictReader(file))
    assert len(suite) == SUITE_CASES
    assert not {intents["intents"][row["category"]] for row in suite} & uncovered
    assert not {row["text"] for row in suite} & {q.text for q in example.questions}
    assert len(suite) + len(example.questions) == 10 * len(intents["intents"])
    assert list(again.questions) == list(example.questions)


def test_the_demo_s_own_example_loads_with_all_its_releases(tmp_path: Path) -> None:
    from fairlead.cli.demo.example import RELEASES, Example

    example = Example()
    assert len(example.questions) >= 300
    for release in RELEASES:
        manifest = example.manifest(release, tmp_path)
        assert (manifest.service, manifest.release.name) == ("banking", release)


def test_memory_counts_the_whole_tree() -> None:
    from fairlead.cli.demo.memory import memory_mb, tree

    child = "import time; data = bytearray(b'x') * 60_000_000; print(1, flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    shell = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert shell.stdout is not None
        shell.stdout.readline()
        assert len(tree(shell.pid)) == 2
        assert 60 < memory_mb(shell.pid) < 200
    finally:
        for pid in reversed(tree(shell.pid)):
            os.kill(pid, 9)
        shell.wait()
        assert shell.stdout is not None
        shell.stdout.close()
    assert memory_mb(shell.pid) == 0.0


def test_a_child_that_is_not_its_own_program_yet_is_not_counted_as_memory() -> None:
    from fairlead.cli.demo.memory import memory_mb, tree

    parent = (
        "import os, time; data = bytearray(b'x') * 60_000_000\n"
        "if not os.fork(): print(1, flush=True)\n"
        "time.sleep(60)"
    )
    shell = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert shell.stdout is not None
        shell.stdout.readline()
        assert len(tree(shell.pid)) == 2
        assert 25 < memory_mb(shell.pid) < 110
    finally:
        for pid in reversed(tree(shell.pid)):
            os.kill(pid, 9)
        shell.wait()
        assert shell.stdout is not None
        shell.stdout.close()


def test_the_demo_is_as_told_only_with_all_four_outcomes_and_nothing_lost() -> None:
    import msgspec

    from fairlead.cli.demo.report import KillReport, ReleaseReport, Report, RequestsReport
    from fairlead.cli.demo_command import as_told

    outcomes = ["promoted", "promoted", "rolled_back", "gate_failed"]
    releases = [
        ReleaseReport(name, f"sha256:{name}", outcome, 9 if name != "d" else 0, "", [], None)
        for name, outcome in zip("abcd", outcomes, strict=True)
    ]
    good = Report(releases, RequestsReport(100, 0, 0, []), KillReport("r", 10, 0, 1.0), 60.0, 500.0)
    assert as_told(good)
    lost = msgspec.structs.replace(good, requests=RequestsReport(100, 1, 0, ["x"]))
    served = msgspec.structs.replace(
        good, releases=[*releases[:3], msgspec.structs.replace(releases[3], requests_served=1)]
    )
    swapped = msgspec.structs.replace(good, releases=[*releases[2:], *releases[:2]])
    unkilled = msgspec.structs.replace(good, kill=None)
    assert not any(as_told(report) for report in (lost, served, swapped, unkilled))
    data = json.loads(msgspec.json.encode(good))
    assert set(data) == {"releases", "requests", "kill", "seconds", "peak_memory_mb"}
    assert set(data["releases"][0]) >= {"name", "digest", "outcome", "requests_served", "verdict"}
