"""What a live rollout was decided by can be judged again by anybody, from its export."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from control.simulated_world import PLAN, World, ended, questions
from fairlead.cli.exporting import write_export
from fairlead.cli.replay import read_recording
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Conflict
from fairlead.domain.strata import Strata
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.judge import Instruments
from fairlead.rollout.model import Rollout
from fairlead.rollout.replay import ReplayResult, replay
from fairlead.rollout.suites import SuiteMetric

Replica = Callable[..., AnsweringReplica]
SUITE = SuiteMetric("answers", "quality", cases=20, margin=0.2)
SUITED = msgspec.structs.replace(PLAN, suites=(SUITE,))
TOLD = msgspec.structs.replace(PLAN, strata=Strata("size"), expected_failure_rate=0.1)


async def audited(world: World, rollout: str, folder: Path) -> ReplayResult:
    """The export of a rollout, written and read again, and judged as anybody would judge it."""
    found = await world.plane.reports.observations(rollout)
    lines, metrics = write_export(rollout, found, folder)
    declared, recording, suites = read_recording(lines, metrics)
    return replay(
        recording,
        alpha=declared.alpha,
        beta=declared.beta,
        judged_at=declared.judged_at,
        suites=suites,
    )


def kept(world: World, rollout: str) -> Rollout:
    return read_rollout(world.row(rollout)).document.rollout


@pytest.mark.parametrize(
    ("release", "fails", "ending"), [("c", 0.5, "worse"), ("b", 0.05, "promoted")]
)
async def test_a_rollout_with_strata_of_risk_is_judged_by_them_and_again_from_its_export(
    world: World, tmp_path: Path, release: str, fails: float, ending: str
) -> None:
    """Control is killed every few turns; long requests fail four times as often."""
    await world.first_champion()
    assert world.route().strata is None, "nothing is told apart without a rollout"
    world.users_per_turn, world.hard = 12, 4.0
    world.fails.update({"a": 0.05, release: fails})
    rollout = await world.ship(release, plan=TOLD)
    await world.until(lambda: world.route().canary is not None)
    assert world.route().strata == Strata("size")
    view = await ended(world, rollout, kill_every=7)
    assert view.ending == ending, view.reason
    assert world.route().strata is None
    assert view.verdict is not None
    numbers = view.verdict.numbers
    assert [one["name"] for one in numbers["by_stratum"]] == ["below 256 B", "4 to 16 KiB"]
    again = await audited(world, rollout, tmp_path)
    assert again.verdict is view.verdict.outcome
    assert again.at == numbers["canary"]["units"] + numbers["champion"]["units"]
    last = again.path[-1]
    assert (last.e_promote, last.e_sample_ratio) == (
        numbers["e_promote"], numbers["e_sample_ratio"],
    )  # fmt: skip
    document = kept(world, rollout)
    tests = Instruments(document.plan)
    tests.restore(document.judge)
    assert last.e_rollback == math.exp(tests.rollback.log_e)


async def test_a_bad_release_that_a_suite_has_found_is_found_again_from_the_export(
    world: World, replica: Replica, tmp_path: Path
) -> None:
    """The verdict of the suite, at the same pair, with the same evidence; users said nothing."""
    server = replica()
    right = server.answer
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    server.answer = lambda text: "wrong" if text.startswith("d: ") else right(text)
    world.users_per_turn, world.fails["d"] = 6, 0.2
    gate = world.gate(questions(60), minimum=0.0)
    rollout = await world.ship("d", plan=SUITED, gates=(gate,))
    view = await ended(world, rollout, kill_every=5)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert view.reason.startswith("suite answers: ")
    again = await audited(world, rollout, tmp_path)
    assert again.verdict is RolloutOutcome.ROLL_BACK
    assert "suite 'answers': score 0.0% against 100.0%" in again.reason
    (suite,) = again.suites
    state = kept(world, rollout).suites["answers"]
    assert suite.pairs == state.pairs
    worse = suite.path[-1]
    assert suite.e_rollback >= suite.threshold > 0
    assert suite.at is not None
    assert 0 < suite.at <= 20, "in the first run"
    assert suite.threshold == 1 / kept(world, rollout).plan.judge_alpha
    (line,) = view.queries
    assert suite.e_rollback == line.value
    assert [point.pairs for point in suite.path] == sorted({suite.at, 10, 20} & set(range(1, 21)))
    assert worse.e_rollback == suite.e_rollback


async def test_a_promotion_that_waited_for_a_suite_is_found_again_from_the_export(
    world: World, replica: Replica, tmp_path: Path
) -> None:
    """And without what the suite has shown, there is none."""
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn, world.fails["a"] = 6, 0.0
    gate = msgspec.structs.replace(world.gate(questions(90), minimum=0.0), cases=10)
    rollout = await world.ship("b", plan=SUITED, gates=(gate,))
    view = await ended(world, rollout)
    assert view.ending == "promoted", view.reason
    again = await audited(world, rollout, tmp_path)
    assert again.verdict is RolloutOutcome.PROMOTE
    assert not again.suites[0].lacks
    lines = tmp_path / f"{rollout}.jsonl"
    text = lines.read_text().splitlines()
    lines.write_text("\n".join(line for line in text if '"suite"' not in line) + "\n")
    declared, recording, suites = read_recording(lines, tmp_path / f"{rollout}.metrics.yaml")
    untold = replay(recording, judged_at=declared.judged_at, suites=suites)
    assert untold.verdict is RolloutOutcome.INCONCLUSIVE
    assert "suite 'answers': no pair; evidence 1 of 20" in untold.missing


async def test_pairs_that_an_older_build_did_not_keep_are_said_to_be_missing(
    world: World, replica: Replica, tmp_path: Path
) -> None:
    """The units are exported nevertheless, and are judged: but the suite's part is not known."""
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn = 6
    gate = world.gate(questions(60), minimum=0.0)
    rollout = await world.ship("b", plan=SUITED, gates=(gate,))
    view = await ended(world, rollout)
    assert view.ending is not None
    row = world.row(rollout)
    document: dict[str, Any] = msgspec.json.decode(row.document)
    del document["rollout"]["suites"]["answers"]["told"]
    row = msgspec.structs.replace(row, document=msgspec.json.encode(document))
    world.store.commit_rollout(row, expected_version=row.version)
    found = await world.plane.reports.observations(rollout)
    assert found.incomplete_suites == ("answers",)
    assert len(found.observations) >= found.judged_at > 0
    assert not found.pairs
    again = await audited(world, rollout, tmp_path)
    assert view.verdict is not None
    assert again.path[-1].e_promote == view.verdict.numbers["e_promote"]
    assert again.verdict is RolloutOutcome.INCONCLUSIVE, "by its units alone it would be promoted"
    assert "suite 'answers': the suite's evidence is not in this file" in again.missing
    assert again.missing in again.reason
    del document["rollout"]["verdict"]
    row = msgspec.structs.replace(world.row(rollout), document=msgspec.json.encode(document))
    world.store.commit_rollout(row, expected_version=row.version)
    with pytest.raises(Conflict, match="no unit, and the cases of answers are not all kept"):
        await world.plane.reports.observations(rollout)
