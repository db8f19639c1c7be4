"""What the gateway adds to a request, side by side with asking the replica directly.

    python benchmarks/serving.py [--rounds N]

Starts an installation with release b of the example, then asks the same questions in turn through
the gateway and directly, one at a time. The table goes to benchmarks/results/serving.md.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fairlead.app.state import StatePaths
from fairlead.cli.api import ControlClient
from fairlead.cli.shipping import prepare
from fairlead.control.limits.key_views import KeyRequest, NewKey
from fairlead.control.views import RolloutView, StatusView
from fairlead.domain.errors import FairleadError
from fairlead.manifest import load_manifest
from fairlead.registry import Registry

BANKING = Path(__file__).parents[1] / "examples" / "banking"
RESULTS = Path(__file__).parent / "results"
START_TIMEOUT_S = 60.0


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        paths = StatePaths(Path(folder))
        up = subprocess.Popen(
            [
                sys.executable, "-m", "fairlead", "up", "--state", folder, "--port", "0",
                "--control-port", "0", "--workers", "1",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            text = table(*measure(paths, rounds))
        finally:
            up.terminate()
            up.wait()
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serving.md").write_text(text, encoding="utf-8")


def measure(paths: StatePaths, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each request: through the gateway, and directly."""
    control = wait_for(paths)
    key = control.post(NewKey, "keys", body=KeyRequest("bench")).key
    manifest = load_manifest(BANKING / "release-b.yaml").model_copy(update={"gates": ()})
    spec = prepare(Registry(paths.registry), manifest)
    view = control.post(RolloutView, "rollouts", body=spec)
    while view.outcome == "running":
        time.sleep(0.2)
        view = control.get(RolloutView, "rollouts", view.id)
    replica = control.get(StatusView, "status").replicas[0].base_url
    gateway = connect(paths.require_up().gateway_url)
    direct = connect(replica)
    through, straight = [], []
    with (BANKING / "traffic.csv").open(encoding="utf-8") as rows:
        questions = itertools.cycle([row["text"] for row in csv.DictReader(rows)])
    for text in itertools.islice(questions, rounds):
        through.append(ask(gateway, text, key))
        straight.append(ask(direct, text, key))
    return through, straight


def wait_for(paths: StatePaths) -> ControlClient:
    """Control, once it answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            control = ControlClient.of(paths)
            if control.get(StatusView, "status").workers:
                return control
        except FairleadError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def connect(url: str) -> http.client.HTTPConnection:
    """One keep-alive connection."""
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)


def ask(connection: http.client.HTTPConnection, text: str, key: str) -> float:
    """Milliseconds until the whole answer is there."""
    body = json.dumps(
        {
            "model": "banking", "messages": [{"role": "user", "content": text}],
            "temperature": 0, "max_tokens": 16,
        }
    )  # fmt: skip
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, headers)
    response = connection.getresponse()
    response.read()
    took = (time.perf_counter() - began) * 1e3
    if response.status != 200:
        raise SystemExit(f"answered {response.status}")
    return took


def table(through: list[float], straight: list[float]) -> str:
    """The result as Markdown."""
    added = [a - b for a, b in zip(through, straight, strict=True)]

    def row(name: str, values: list[float]) -> str:
        p99 = statistics.quantiles(values, n=100)[98]
        return f"| {name} | {statistics.median(values):.2f} | {p99:.2f} |"

    return "\n".join(
        [
            "# One request at a time, milliseconds",
            "",
            f"{len(through)} questions to release b of the example, in turn.",
            "",
            "| | p50 | p99 |",
            "| --- | --: | --: |",
            row("directly to the replica", straight),
            row("through the gateway", through),
            row("difference, pair by pair", added),
            "",
        ]
    )


if __name__ == "__main__":
    main()
