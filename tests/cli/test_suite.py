"""People see the cases that actions made, write them to a file, and refuse them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.simulated_installation import Run
from fairlead.cli.api import ControlClient
from fairlead.control.acting.suite_versions import FreshCase, SuiteVersion
from fairlead.domain.verdicts import GateOutcome, GateVerdict

DIGEST = "sha256:" + "ab" * 32
CASES = (
    FreshCase("c1", "r1", "who pays my cable bill", "cable, bill", ("drift", "new")),
    FreshCase("c2", "r2", ""),
    FreshCase("c3", "r3", "", is_refused=True),
)
VERSION = SuiteVersion(
    "sv-1", "bank", DIGEST, 0.0, "a1e57", "add_cases:drift", "what is asked now becomes cases",
    CASES, 0.8, 7, {"": DIGEST, "polite": DIGEST}, (), 1.0,
    (GateVerdict("judge on new cases", GateOutcome.FAIL, "0 of 2 right"),),
    refused=("1 of 3 cases, by ana: spam",),
)  # fmt: skip


@pytest.fixture
def fairlead(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A control that has one version."""

    def answer(
        _control: ControlClient, method: str, path: tuple[str, ...], _query: Any, body: Any
    ) -> bytes:
        if (method, *path) == ("GET", "suites"):
            return msgspec.json.encode([VERSION.shown])
        if (method, *path) == ("GET", "suites", "sv-1"):
            return msgspec.json.encode(VERSION)
        assert (method, *path) == ("POST", "suites", "sv-1", "refuse")
        asked = json.loads(body)
        assert (asked["by"], asked["why"], asked["cases"]) == ("ana", "spam", ["c1"])
        return msgspec.json.encode(VERSION.without(["c1"], is_refused=True).shown)

    monkeypatch.setattr(ControlClient, "of", lambda _paths: ControlClient("http://x:1", "t"))
    monkeypatch.setattr(ControlClient, "_call", answer)
    return run


def test_versions_are_listed_with_what_came_of_them(fairlead: Run) -> None:
    out = fairlead("suite", "list").out
    assert "sv-1" in out
    assert "judge on new cases fail" in " ".join(out.split())
    assert "cable" not in out
    assert json.loads(fairlead("suite", "list", "--json").out)[0]["id"] == "sv-1"


def test_a_version_is_shown_with_its_cases_its_origin_and_its_verdicts(fairlead: Run) -> None:
    out = " ".join(fairlead("suite", "show", "sv-1").out.split())
    for said in (
        "incident 7", "by policy add_cases:drift", "what is asked now becomes cases",
        "suite of polite with them", "judge on new cases: fail: 0 of 2 right",
        "c1 cable, bill: who pays my cable bill", "c2 : its sample is deleted", "c3 : refused",
        "refused: 1 of 3 cases, by ana: spam",
    ):  # fmt: skip
        assert said in out
    assert json.loads(fairlead("suite", "show", "sv-1", "--json").out)["minimum"] == 0.8


def test_its_cases_are_written_for_a_gate_s_suite(fairlead: Run, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    assert "1 cases" in fairlead("suite", "show", "sv-1", "--out", str(path)).out
    assert json.loads(path.read_text()) == {
        "id": "r1", "input": "who pays my cable bill", "expected": None, "tags": ["drift", "new"],
    }  # fmt: skip
    assert fairlead("suite", "show", "sv-1", "--out", str(tmp_path / "no" / "x")).code == 9


def test_a_person_refuses_cases(fairlead: Run) -> None:
    asked = ("suite", "refuse", "sv-1", "--case", "c1", "--why", "spam", "--by", "ana")
    assert "2 of 3 cases are refused" in fairlead(*asked).out
    assert fairlead("suite", "refuse", "sv-1").code == 2
