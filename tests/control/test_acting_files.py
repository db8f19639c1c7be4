"""Files of a release that were changed underneath are found before a replica is missing."""

from __future__ import annotations

from pathlib import Path

from control.acting_world import platform
from control.simulated_world import World
from fairlead.control.acting.changes import change_of
from fairlead.control.acting.files_watch import DAMAGED, FilesWatch
from fairlead.domain.release import WeightsModel, short
from fairlead.monitoring.burning import Severity


def replace(path: Path, data: bytes) -> None:
    """Tests share the file itself."""
    made = path.resolve().with_name("made")
    made.write_bytes(data)
    made.replace(path.resolve())


def test_what_is_found_is_an_event_once_and_a_condition_for_as_long_as_it_is_so() -> None:
    damage = {"sha256:a": "", "sha256:b": "x.gguf does not match its digest"}
    watch = FilesWatch(lambda release: damage[release])
    champions = [("bank", "sha256:a"), ("shop", "sha256:b")]
    (event,) = watch.look(champions, 5.0)
    assert (event.kind, event.service, event.at) == (DAMAGED, "shop", 5.0)
    change = change_of(event)
    assert change is not None
    assert (change.kind, dict(change.labels)["release"]) == ("files", "b")
    assert watch.look(champions, 6.0) == []
    (one,) = watch.conditions()
    assert one.severity is Severity.TICKET
    assert dict(one.labels) == {
        "monitor": DAMAGED, "service": "shop", "release": "b",
    }  # fmt: skip
    assert "x.gguf does not match its digest" in one.summary
    damage["sha256:b"] = ""
    assert watch.look(champions, 7.0) == []
    assert list(watch.conditions()) == []
    damage["sha256:b"] = "gone"
    assert len(watch.look(champions, 8.0)) == 1
    assert watch.look([("bank", "sha256:a")], 9.0) == [], "its service is gone"
    assert list(watch.conditions()) == []


async def test_weights_that_are_changed_underneath_are_said_and_never_served(
    world: World,
) -> None:
    """Nobody ships anything: somebody puts another file in its place."""
    await world.first_champion()
    seen = platform(world)
    await seen.look()
    assert [c.monitor for c in seen.conditions(world.now)] == []

    model = world.registry.get(world.digests["a"]).release.model
    assert isinstance(model, WeightsModel)
    (path,) = world.registry.weights(world.digests["a"])
    sound = path.read_bytes()
    replace(path, bytes(byte ^ 1 for byte in sound))
    await world.turn()
    await seen.look()
    (one,) = seen.conditions(world.now)
    assert one.monitor == DAMAGED
    assert dict(one.labels)["release"] == short(world.digests["a"])

    started = len(world.target.started)
    world.target.lose(world.replicas_of("a")[0].id)
    for _ in range(5):
        await world.turn()
    assert len(world.target.started) == started, "no replica has the other weights"

    replace(path, sound)
    for _ in range(3):
        await world.turn()
    await seen.look()
    assert DAMAGED not in {c.monitor for c in seen.conditions(world.now)}
    assert len(world.target.started) == started + 1
