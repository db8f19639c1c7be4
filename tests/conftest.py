"""What all tests share, and how processes share the tests (`support.turns`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.turns import ALONE, Turns, next_share, share_of

# How long a test takes says how busy the machine is, and nothing of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A console that is made while this is set keeps that width for good.
os.environ.pop("COLUMNS", None)

_TURNS = pytest.StashKey[Turns]()
_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    given = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[_TURNS] = Turns(Path(given["turns"]))
    elif getattr(config.option, "dist", "no") != "no":
        config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="fairlead-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _TURNS in config.stash:
        config.stash[_TURNS].close()
    if _FOLDER in config.stash:
        config.stash[_FOLDER].cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["turns"] = node.config.stash[_FOLDER].name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The first process begins with what is large, the others with what is small."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            share = next_share(self.workqueue, large_first=node is self.nodes[0])
            self.workqueue.move_to_end(share, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Outside the test's timeout: waiting for others is not its time."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    with turns.take(alone=item.nodeid.startswith(ALONE)):
        return (yield)
