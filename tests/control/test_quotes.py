"""What people wrote is quoted by the alert that it is about, and is nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("numpy")

from control.acting_world import acting, carry_out, small
from control.simulated_world import DIRECT, World
from fairlead.control.notify import rendering
from fairlead.control.shipping.stored import read_rollout
from fairlead.embedding.hashed import HashedNgrams
from fairlead.monitoring.actions import ActionKind, ActionPolicy, Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.monitors.drift import TextDrift
from fairlead.monitoring.monitors.drift_words import About
from fairlead.monitoring.monitors.made_texts import changed_texts, usual_texts
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.postmortem import postmortem
from fairlead.monitoring.telling import Route

ASKED = ("guitar", "concert", "singer", "album", "drums", "melody", "festival")
"""Words of the prompts that are new."""
NOW = 200_000.0
DRIFT = ("drift", "bank")
ROUTES = (Route("plain", wait_s=0.0), Route("quoting", wait_s=0.0, quotes=True))


def policies(*kinds: ActionKind) -> dict[str, tuple[ActionPolicy, ...]]:
    return {"bank": tuple(ActionPolicy(kind, ("drift",), (Severity.TICKET,)) for kind in kinds)}


@pytest.fixture(scope="module")
def drifted() -> Condition:
    """What the monitor finds when people ask about concerts."""
    monitor = TextDrift(
        About("drift", "bank", "sha256:abc", "prompt"), TextSettings(drift_texts=1_000),
        HashedNgrams(64),
    )  # fmt: skip
    for text in (*usual_texts(1_100), *changed_texts(300, "prompt", "new_content")):
        monitor.see_text(text)
    return next(one for one in monitor.conditions(NOW) if "new_content" in str(one.labels))


def has_words(found: object) -> bool:
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return any(word in text.lower() for word in ASKED)


def test_the_desk_has_them_in_the_alert_alone_and_tells_them_where_that_is_declared(
    drifted: Condition,
) -> None:
    seen = {"bank": Circumstances("sha256:abc", 0.0, "sha256:def")}
    duties = Duties(ROUTES, policies(ActionKind.PROPOSE_RETRAINING))
    look = Look(NOW, (drifted,), (DRIFT,), circumstances=seen)
    outcome = step(Desk(), duties, look)
    (alert,) = outcome.desk.alerts.values()
    assert has_words(alert)
    assert not has_words(msgspec.structs.replace(alert, quotes=()))
    assert not has_words(msgspec.structs.replace(outcome.desk, alerts={}))
    assert len(outcome.actions) == 1
    assert not has_words(postmortem(outcome.desk.incidents[0], NOW))
    plain, quoting = outcome.messages
    for told, is_quoted in ((plain, False), (quoting, True)):
        forms: list[Any] = [
            rendering.text(told), rendering.webhook(told), rendering.slack(told),
            rendering.pagerduty(told, "key"), rendering.alertmanager(told),
        ]  # fmt: skip
        assert {has_words(form) for form in forms} == {is_quoted}
    away = step(outcome.desk, duties, Look(NOW + 2.0, (), (DRIFT,), circumstances=seen)).desk
    assert not has_words(away), "the condition is away"
    (still,) = step(outcome.desk, duties, Look(NOW + 299.0)).desk.alerts.values()
    assert has_words(still)
    unseen = step(outcome.desk, duties, Look(NOW + 300.0)).desk
    assert not has_words(unseen), "nobody knows whether the samples are kept still"


async def test_no_event_rollout_diversion_or_proposal_has_them(
    world: World, drifted: Condition, tmp_path: Path
) -> None:
    await world.first_champion(fallbacks=("small",))
    await world.finish(await world.ship("b", plan=DIRECT, fallbacks=("small",)))
    await small(world)
    champion = world.digests["b"]
    labels = (*(pair for pair in drifted.labels if pair[0] != "release"), ("release", champion))
    found = msgspec.structs.replace(drifted, labels=tuple(sorted(labels)))
    kinds = (ActionKind.FALLBACK, ActionKind.PROPOSE_RETRAINING, ActionKind.ROLL_BACK)
    seen = Circumstances(champion, NOW - 60.0, world.digests["a"], fallbacks=("small",))
    look = Look(NOW, (found,), (DRIFT,), circumstances={"bank": seen})
    actions = step(Desk(), Duties(actions=policies(*kinds)), look).actions
    assert {entry.kind for entry in actions} == set(kinds)
    for entry in actions:
        await carry_out(world, entry)
    assert acting(world).diversions.all()
    assert await acting(world).proposals.all("bank")
    await world.until(lambda: world.champion() == world.digests["a"])
    await world.until(lambda: world.plane._rollouts.overview.running("bank") is None)
    why = [read_rollout(row).document.rollout.why for row in world.rollouts()]
    assert any("by policy roll_back:drift" in one or "policy roll_back" in one for one in why)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("fairlead.db*")).lower()
    assert b"unlike those that it began with" in kept, "the reason is kept"
    assert not any(word.encode() in kept for word in ASKED)
