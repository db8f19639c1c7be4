"""The table of what words mean is taken by the control process that starts after it was made."""

from __future__ import annotations

import os
import signal

import pytest

from fairlead.control.watching.watch_views import MonitorView
from fairlead.embedding.kinds import HASHED, WORDS
from fairlead.manifest import Manifest
from fairlead.manifest.judging import Capture
from support.installation import Installation
from support.word_table import word_table

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


def test_control_goes_by_the_table_from_its_next_start_on(installation: Installation) -> None:
    def watched(manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"gates": (), "capture": Capture(share=1.0)})

    def kinds() -> set[str]:
        found = installation.control.get(list[MonitorView], "monitors")
        return {one.vectors.partition("-")[0] for one in found if one.monitor == "drift"}

    first = installation.ship(installation.spec("a", watched))
    assert installation.finish(first.id).outcome == "promoted"
    installation.wait(lambda: kinds() == {HASHED}, "drift that goes by spelling")
    installation.paths.word_vectors.write_bytes(word_table().as_bytes())
    (control,) = installation.pids("control_process")
    os.kill(control, signal.SIGKILL)
    installation.wait(lambda: kinds() == {WORDS}, "drift that goes by what words mean", 60)
