"""A real installation: `fairlead up` in a scratch folder, on free loopback ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fairlead.app.state import StatePaths
from fairlead.cli.api import ControlClient
from fairlead.cli.shipping import prepare
from fairlead.control.limits.key_views import KeyRequest, NewKey
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.views import RolloutView, StatusView
from fairlead.domain.errors import FairleadError
from fairlead.manifest import Manifest, load_manifest
from fairlead.registry import Registry

BANKING = Path(__file__).parents[2] / "examples" / "banking"


class Installation:
    """`fairlead up` as a child process, with what a test asks of it."""

    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root)
        self.process: subprocess.Popen[bytes] | None = None
        self.key = ""

    def start(
        self,
        workers: int = 2,
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait until it serves; `environ` is added to the environment."""
        self.paths.create()
        command = [
            sys.executable, "-m", "fairlead", "up", "--state", str(self.paths.root),
            "--port", "0", "--control-port", "0", "--workers", str(workers), *options,
        ]  # fmt: skip
        with (self.paths.logs / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environ or {})},
            )
        self.wait(lambda: len(self.status().workers) == workers, "the gateway workers", 60)

    def stop(self) -> None:
        """Stop it; nothing of it may be left after."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    @property
    def control(self) -> ControlClient:
        return ControlClient.of(self.paths)

    @property
    def gateway(self) -> tuple[str, int]:
        url = self.paths.require_up().gateway_url
        host, _, port = url.partition("://")[2].rpartition(":")
        return host, int(port)

    def status(self) -> StatusView:
        return self.control.get(StatusView, "status")

    def make_key(self, name: str = "test") -> str:
        self.key = self.control.post(NewKey, "keys", body=KeyRequest(name)).key
        return self.key

    def spec(
        self, release: str, change: Callable[[Manifest], Manifest] | None = None
    ) -> ServiceSpec:
        """Build one of the example's releases; `change` edits its manifest first."""
        manifest = load_manifest(BANKING / f"release-{release}.yaml")
        return prepare(Registry(self.paths.registry), change(manifest) if change else manifest)

    def ship(self, spec: ServiceSpec) -> RolloutView:
        # What a test ships need not fit into what traffic there happens to be.
        return self.control.post(RolloutView, "rollouts", body=spec, anyway=1)

    def rollout(self, rollout: str) -> RolloutView:
        """The rollout, asked again while control is being started again."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.control.get(RolloutView, "rollouts", rollout)
            except FairleadError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def finish(self, rollout: str, timeout_s: float = 180) -> RolloutView:
        """Wait until the rollout has ended."""
        self.wait(
            lambda: self.rollout(rollout).outcome != "running", f"rollout {rollout}", timeout_s
        )
        return self.rollout(rollout)

    def wait(self, done: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Wait for a condition; errors of a control that is not up yet count as not done."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if done():
                    return
            except FairleadError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not after {timeout_s} s\n{self.log()}")
            assert self.process is not None
            assert self.process.poll() is None, f"fairlead up has ended\n{self.log()}"
            time.sleep(0.05)

    def log(self) -> str:
        """The ends of all logs, for a failed test."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted(self.paths.logs.glob("*.log"))
        )

    def pids(self, module: str) -> list[int]:
        """Process ids of the installation's processes whose command line holds `module`."""
        found = []
        for pid in descendants(self.process.pid if self.process else 0):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if module in line:
                found.append(pid)
        return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = children.read_text().split()
        except OSError:
            continue
        for child in direct:
            found += [int(child), *descendants(int(child))]
    return found


def left_over(root: Path) -> list[str]:
    """Command lines of other processes that still speak of a state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(root) in line:
                found.append(line)
    return found


@contextmanager
def running(
    root: Path,
    workers: int = 2,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Installation]:
    """A running installation; after it, no process of it is left."""
    made = Installation(root)
    try:
        made.start(workers, options, environ)
        yield made
    finally:
        made.stop()
    assert left_over(root) == []
