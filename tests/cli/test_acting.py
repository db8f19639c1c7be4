"""People see what actions have left behind, and end it."""

from __future__ import annotations

import json

import msgspec
import pytest

from cli.simulated_installation import Run
from fairlead.cli.api import ControlClient
from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.proposals import Proposal
from fairlead.control.acting.tightenings import Tightening

DIGEST = "sha256:" + "ab" * 32
PROPOSAL = Proposal(
    "pr-1", 0.0, "bank", DIGEST, "a1e57", "propose_retraining:drift", "drift of what is asked", 0.0,
    900, 4, {"success": 40}, {"success": 0.75}, 120, ("fairlead samples list --service bank",),
)  # fmt: skip


@pytest.fixture
def fairlead(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A control that has one proposal, and diverts `bank`."""

    def answer(_control: ControlClient, method: str, path: tuple[str, ...], *_: object) -> bytes:
        if (method, *path) == ("GET", "proposals"):
            return msgspec.json.encode([PROPOSAL])
        if path[-1] == "loosen":
            assert (method, *path[:-1]) == ("POST", "services", "bank", "guardrails", "secrets")
            made = Tightening("bank", DIGEST, "secrets", 0.0, "policy x", "many hits")
            return msgspec.json.encode(made)
        assert (method, *path) == ("POST", "services", "bank", "undivert")
        return msgspec.json.encode(Diversion("bank", DIGEST, 0.0, "policy x", "no replica"))

    monkeypatch.setattr(ControlClient, "of", lambda _paths: ControlClient("http://x:1", "t"))
    monkeypatch.setattr(ControlClient, "_call", answer)
    return run


def test_a_proposal_is_shown_with_its_figures_and_the_commands(fairlead: Run) -> None:
    out = fairlead("monitor", "proposals").out
    for said in (
        "bank", "pr-1", "drift of what is asked", "120 samples are kept",
        "40 values of success on 900 requests", "4 of them failed", "mean success 0.75",
        "fairlead samples list --service bank",
    ):  # fmt: skip
        assert said in out
    assert json.loads(fairlead("monitor", "proposals", "--json").out)[0]["id"] == "pr-1"


def test_what_was_ended_is_said(fairlead: Run) -> None:
    out = fairlead("monitor", "undivert", "bank").out
    assert "serves again" in out
    assert "no replica" in out
    assert json.loads(fairlead("monitor", "undivert", "bank", "--json").out)["release"] == DIGEST


def test_a_guardrail_that_flags_again_is_said(fairlead: Run) -> None:
    out = fairlead("monitor", "loosen", "bank", "secrets").out
    assert "guardrail secrets flags again" in out
    assert "many hits" in out
    shown = json.loads(fairlead("monitor", "loosen", "bank", "secrets", "--json").out)
    assert shown["guardrail"] == "secrets"
