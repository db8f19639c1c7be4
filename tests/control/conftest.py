"""A world around control, and replicas that answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from control.answering_replica import AnsweringReplica
from control.judged_world import JudgedWorld
from control.simulated_world import World, build_releases
from fairlead.registry import Registry
from fairlead.store import open_store

MODELS = Path(__file__).parents[2] / "examples" / "banking" / "models"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A registry with releases a to d; only read."""
    root = tmp_path_factory.mktemp("built") / "registry"
    return root, build_releases(root, MODELS)


@pytest.fixture
def own_registry(tmp_path: Path, built: tuple[Path, dict[str, str]]) -> Registry:
    """A registry with releases a to d, to add to; its files are replaced, never written to."""
    shutil.copytree(built[0], tmp_path / "registry", copy_function=os.link)
    return Registry(tmp_path / "registry")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it."""
    path = tmp_path_factory.mktemp("empty") / "fairlead.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
async def world(
    tmp_path: Path,
    own_registry: Registry,
    built: tuple[Path, dict[str, str]],
    empty_database: Path,
) -> AsyncIterator[World]:
    """A world in which control runs, with nothing shipped yet."""
    shutil.copy(empty_database, tmp_path / "fairlead.db")
    store = open_store(f"sqlite:///{tmp_path}/fairlead.db")
    made = World(store, own_registry, built[1])
    await made.start()
    yield made
    await made.stop()
    store.close()


@pytest.fixture
async def judged_world(
    tmp_path: Path,
    own_registry: Registry,
    built: tuple[Path, dict[str, str]],
    empty_database: Path,
) -> AsyncIterator[JudgedWorld]:
    """The same with a judge model, and users who say nothing."""
    shutil.copy(empty_database, tmp_path / "fairlead.db")
    store = open_store(f"sqlite:///{tmp_path}/fairlead.db")
    made = JudgedWorld(store, own_registry, built[1])
    await made.start()
    yield made
    await made.stop()
    store.close()


@pytest.fixture
def replica() -> Iterator[Callable[..., AnsweringReplica]]:
    """Starts replicas that answer; all are stopped at the end."""
    started: list[AnsweringReplica] = []

    def start(*arguments: object) -> AnsweringReplica:
        started.append(AnsweringReplica(*arguments))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for made in started:
        made.close()
