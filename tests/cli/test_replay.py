"""`fairlead rollout replay`: a verdict from a file."""

import json
import random
from pathlib import Path

import msgspec
import pytest

from cli.simulated_installation import Run
from fairlead.cli import exporting
from fairlead.rollout.export import Recorded, with_suites
from fairlead.rollout.metrics import Metric
from fairlead.rollout.recording import ReplayedObservation
from fairlead.rollout.suites import SuiteMetric, SuiteReading, take_in_suites

METRICS = """\
metrics:
- {name: failed, kind: binary, bad: true, margin: 0.1, weight: 2}
- {name: ttft, kind: latency, margin: 0.2}
"""
SUITES = (SuiteMetric("answers", "quality"),)


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.yaml"
    path.write_text(METRICS)
    return path


@pytest.fixture
def observations(tmp_path: Path) -> Path:
    dice = random.Random(1)
    lines = []
    for number in range(700):
        canary = dice.random() < 0.5
        unit = {
            "unit": f"u{number}", "arm": "canary" if canary else "champion", "rho": 0.5,
            "enrolled_at": number, "settled_at": number + 1,
        }  # fmt: skip
        bad = dice.random() < (0.4 if canary else 0.1)
        lines.append(json.dumps({**unit, "metric": "failed", "value": bad}))
        lines.append(json.dumps({**unit, "metric": "ttft", "value": dice.lognormvariate(0, 0.5)}))
    path = tmp_path / "observations.jsonl"
    path.write_text("\n".join(lines) + "\n\n")
    return path


def test_json_has_verdict_at_and_path(run: Run, metrics: Path, observations: Path) -> None:
    done = run("rollout", "replay", observations, "--metrics", metrics, "--json")
    assert done.code == 0
    result = json.loads(done.out)
    assert result["verdict"] == "roll_back"
    assert result["at"] == result["path"][-1]["units"] < 400
    assert result["path"][-1]["e_rollback"] >= 100


def test_text_has_the_reason_and_each_metric(run: Run, metrics: Path, observations: Path) -> None:
    done = run("rollout", "replay", observations, "--metrics", metrics)
    assert done.out.startswith("roll_back at unit ")
    assert "ttft" in done.out


def test_late_outcomes_are_counted_as_missing(run: Run, metrics: Path, observations: Path) -> None:
    done = run("rollout", "replay", observations, "--metrics", metrics, "--settle", "0.5", "--json")
    result = json.loads(done.out)
    assert result["verdict"] == "invalid"
    assert result["late"] == 1_400


def test_mistakes_name_file_and_line(run: Run, metrics: Path, observations: Path) -> None:
    text = observations.read_text().splitlines()
    for line, message in (
        (text[1].replace('"metric"', '"metrik"'), ":2: Object contains unknown field `metrik`"),
        (text[1].replace("ttft", "tfft"), ":2: metric 'tfft' is not declared"),
        ("{", ":2: Input data was truncated"),
    ):
        observations.write_text(f"{text[0]}\n{line}\n")
        done = run("rollout", "replay", observations, "--metrics", metrics)
        assert done.code == 2
        assert message in done.err
    metrics.write_text(METRICS.replace("margin: 0.1", "margn: 0.1"))
    done = run("rollout", "replay", observations, "--metrics", metrics)
    assert done.code == 2
    assert 'did you mean "margin"' in done.err


def test_files_that_are_not_there(run: Run, metrics: Path, tmp_path: Path) -> None:
    for arguments in (
        (tmp_path / "none.jsonl", "--metrics", metrics),
        (metrics, "--metrics", tmp_path / "no"),
    ):
        done = run("rollout", "replay", *arguments)
        assert done.code == 2
        assert "there is no such file" in done.err


def test_suites_are_shown_and_a_line_that_is_wrong_is_named(run: Run, tmp_path: Path) -> None:
    """Beside units, of which one has a stratum; the pairs come in any order."""
    metrics = tmp_path / "metrics.yaml"
    metrics.write_text(
        "metrics: [{name: failed}]\nstrata: [easy, hard]\nsuites: [{name: answers, margin: 0.2}]\n"
    )
    lines = tmp_path / "found.jsonl"
    pairs = [f'{{"suite":"answers","case":{n},"champion":0,"canary":1}}' for n in range(1, 15)]
    unit = '{"unit":"suite","arm":"canary","rho":0.5,"metric":"failed","value":0,"enrolled_at":1%s}'
    lines.write_text("\n".join([*reversed(pairs), unit % ',"stratum":"easy"']) + "\n")
    done = run("rollout", "replay", lines, "--metrics", metrics)
    assert done.code == 0, done.err
    assert done.out.startswith("roll_back at unit 1: suite 'answers': score 0.0% against 100.0%")
    assert "at pair" in done.out
    for line, message in (
        ('{"suite":"answrs","case":1,"champion":0,"canary":1}', "suite 'answrs' is not declared"),
        ('{"suite":"answers","case":1,"champion":0,"canary":2}', "each is from 0 (good) to 1"),
        ('{"suite":"answers","case":1,"champion":1,"canary":1}', "case 1 of suite 'answers' is"),
        ('{"suite":"answers","case":1,"champion":0}', "missing required field `canary`"),
        (unit % ',"stratum":"soft"', "stratum 'soft' is not declared"),
    ):
        lines.write_text("\n".join([*pairs, line]) + "\n")
        done = run("rollout", "replay", lines, "--metrics", metrics)
        assert done.code == 2
        assert f"{lines.name}:15: " in done.err
        assert message in done.err
    lines.write_text("\n".join(pairs[1:]) + "\n")
    done = run("rollout", "replay", lines, "--metrics", metrics)
    assert "case 1 of suite 'answers' is missing" in done.err


def test_a_suite_whose_pairs_were_not_kept_is_said_beside_any_verdict(
    run: Run, metrics: Path, observations: Path
) -> None:
    """What the units say stands; the other suite is held to the alpha that it had live."""
    told = METRICS + "suites: [{name: answers, incomplete: true}, {name: others}]\n"
    metrics.write_text(told)
    done = run("rollout", "replay", observations, "--metrics", metrics, "--json")
    result = json.loads(done.out)
    assert result["verdict"] == "roll_back"
    assert result["reason"].endswith("; suite 'answers': the suite's evidence is not in this file")
    assert [suite["threshold"] for suite in result["suites"]] == [200.0, 200.0]
    done = run("rollout", "replay", observations, "--metrics", metrics)
    assert "suite's evidence is not in this file" in " ".join(done.out.split())
    more = '{"suite":"answers","case":1,"champion":0,"canary":1}\n'
    observations.write_text(observations.read_text() + more)
    done = run("rollout", "replay", observations, "--metrics", metrics)
    assert done.code == 2
    assert "suite 'answers' is declared incomplete, and has a pair" in done.err


def test_an_export_says_which_suite_is_not_in_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And so does its metrics file, by which the replay knows."""
    unit = ReplayedObservation("u1", "canary", 0.5, "failed", 1.0, 1.0)
    found = Recorded([Metric("failed")], 0.01, 0.05, 1, [unit])
    judged = take_in_suites(
        {}, (SuiteReading("answers", 0, 1, ((0.0, 1.0),), 9, 1.0, 2.0),), SUITES
    )
    old = {"answers": msgspec.structs.replace(judged["answers"], told=b"")}
    answers = [with_suites(found, SUITES, judged), with_suites(found, SUITES, old)]
    monkeypatch.setattr(exporting, "client", lambda _state: FakeClient(answers))
    done = run("rollout", "export", "r1", "--out", tmp_path)
    assert "1 units and 1 cases of suites" in done.out
    assert "not in it" not in done.out
    done = run("rollout", "export", "r1", "--out", tmp_path)
    assert done.code == 0, done.err
    assert "not in it: what the suites answers have shown" in " ".join(done.out.split())
    done = run(
        "rollout", "replay", tmp_path / "r1.jsonl", "--metrics", tmp_path / "r1.metrics.yaml"
    )
    assert "the suite's evidence is not in this file" in " ".join(done.out.split())


UNIT = '{"unit":"u%d","arm":"%s","rho":0.5,"metric":"failed","value":0,"enrolled_at":%d%s}'


def test_what_an_old_export_does_not_say_is_assumed_aloud(run: Run, tmp_path: Path) -> None:
    """A build that knew no strata wrote none; of a file that somebody wrote there is no doubt."""
    metrics, lines = tmp_path / "metrics.yaml", tmp_path / "found.jsonl"
    lines.write_text(
        "\n".join(UNIT % (n, ("canary", "champion")[n % 2], n, "") for n in range(20)) + "\n"
    )
    known = "metrics: [{name: failed}, {name: unconfirmed, missing: skip}]\n"
    for told, expected in (
        ("judged_at: 20\n", ["it names no strata of risk", "how much feedback was required"]),
        ("judged_at: 20\nstrata: []\n", []),
        ("", []),
        ("strata: [easy]\n", ["20 of 20 units have no stratum, and are one of their own"]),
    ):
        metrics.write_text(known + told)
        done = run("rollout", "replay", lines, "--metrics", metrics, "--json")
        assert done.code == 0, done.err
        assumed = json.loads(done.out)["assumed"]
        assert len(assumed) == len(expected), assumed
        for said, words in zip(assumed, expected, strict=True):
            assert words in said
        done = run("rollout", "replay", lines, "--metrics", metrics)
        assert done.out.count("assumed: ") == len(expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (',"silent":1', "silent 1 and told 0 are not of 0 requests"),
        (',"requests":2,"silent":2,"told":1', "silent 2 and told 1 are not of 2 requests"),
        (',"requests":2,"told":-1', "told -1 are not of 2 requests"),
        (',"requests":3,"told":3', "unit 'u1' has two counts of requests with feedback"),
    ],
)
def test_counts_of_feedback_that_cannot_be_are_refused(
    run: Run, metrics: Path, tmp_path: Path, line: str, message: str
) -> None:
    lines = tmp_path / "found.jsonl"
    first = UNIT % (1, "canary", 1, ',"requests":2,"silent":1,"told":1')
    lines.write_text(f"{first}\n{UNIT % (1, 'canary', 1, line)}\n")
    done = run("rollout", "replay", lines, "--metrics", metrics)
    assert done.code == 2
    assert f"{lines.name}:2: " in done.err
    assert message in done.err


class FakeClient:
    """Control's answers, one after the other."""

    def __init__(self, answers: list[Recorded]) -> None:
        self._answers = answers

    def get(self, _kind: type[Recorded], *_path: str) -> Recorded:
        return self._answers.pop(0)
