"""`fairlead monitor`: rules that Prometheus takes, and alerts that arrive."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.simulated_installation import Run
from control.notify.receiving import HttpReceiver
from monitoring.test_prometheus_rules import PROMTOOL, needs_promtool


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()


def declare(project: Path, text: str) -> None:
    path = project / "fairlead.yaml"
    path.write_text(path.read_text() + text)


def alerts_of(text: str) -> set[tuple[str, str, str]]:
    found = set()
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            if "slo" in rule["labels"] and "alert" in rule:
                labels = rule["labels"]
                found.add((labels["service"], labels["slo"], labels["severity"]))
    return found


def test_availability_is_watched_though_nothing_is_declared(run: Run, project: Path) -> None:
    done = run("monitor", "rules")
    assert done.code == 0
    assert alerts_of(done.out) == {
        ("shop", "availability", "page"), ("shop", "availability", "ticket"),
    }  # fmt: skip
    assert "promises 99.5% of requests answered" in done.out


@needs_promtool
def test_the_rules_of_several_manifests_are_one_file(
    run: Run, project: Path, tmp_path: Path
) -> None:
    path = project / "fairlead.yaml"
    (project / "other.yaml").write_text(path.read_text().replace("service: shop", "service: b"))
    declare(project, "slos: {ttft_p95_ms: 400, quality: 90%, period_days: 28}\n")
    done = run("monitor", "rules", "-f", "fairlead.yaml", "-f", "other.yaml")
    assert {service for service, _, _ in alerts_of(done.out)} == {"shop", "b"}
    assert "# b: quality" not in done.out
    assert "# shop: quality is shown by control; its /metrics have to be scraped" in done.out
    file = tmp_path / "rules.yml"
    file.write_text(done.out)
    assert PROMTOOL is not None
    subprocess.run([PROMTOOL, "check", "rules", str(file)], check=True, capture_output=True)
    assert run("monitor", "rules", "-f", "fairlead.yaml", "-f", "fairlead.yaml").code == 2


def test_a_promise_that_cannot_be_held_is_refused(run: Run, project: Path) -> None:
    declare(project, "slos: {availability: 100%}\n")
    done = run("monitor", "rules")
    assert done.code == 2
    assert "slos.availability: a target of 1 is not above 0% and below 100%" in done.err


ROUTES = """
monitoring:
  routes:
    - name: hook
      to: {{kind: webhook, url: "{url}", secret_env: ALERT_HOOK}}
    - name: pager
      to: {{kind: pagerduty, url: "{url}", key_env: ALERT_PD}}
"""


def test_a_test_alert_and_its_end_go_to_every_route(
    run: Run, project: Path, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(project, ROUTES.format(url=http.url))
    monkeypatch.setenv("ALERT_HOOK", "SECRET")
    monkeypatch.setenv("ALERT_PD", "routing")
    done = run("monitor", "notify")
    assert (done.code, done.out) == (0, "hook: sent\npager: sent\n")
    bodies = [call.json for call in http.calls]
    assert bodies[0]["receiver"] == "shop/hook"
    assert [body["status"] for body in bodies[:2]] == ["firing", "resolved"]
    assert [body["event_action"] for body in bodies[2:]] == ["trigger", "resolve"]
    assert "nothing is wrong" in bodies[0]["title"]


def test_a_route_that_fails_is_said_and_hides_no_other(
    run: Run, project: Path, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(project, ROUTES.format(url=http.url))
    monkeypatch.setenv("ALERT_PD", "routing")
    monkeypatch.delenv("ALERT_HOOK", raising=False)
    done = run("monitor", "notify")
    assert done.code == 5
    assert (
        "hook: NOT sent: there is nothing usable in the environment variable ALERT_HOOK" in done.out
    )
    assert "pager: sent" in done.out
    assert run("monitor", "notify", "pager").code == 0
    assert run("monitor", "notify", "nobody").code == 6


def test_without_routes_it_says_what_to_declare(run: Run, project: Path) -> None:
    done = run("monitor", "notify")
    assert done.code == 6
    assert "monitoring.routes" in done.err


def test_dashboards_are_written_one_file_each(run: Run, project: Path) -> None:
    out = project / "grafana" / "fairlead"
    for _ in range(2):  # what is there is written anew
        done = run("monitor", "dashboards", "--out", str(out))
        assert done.code == 0, done
    files = {path.name: json.loads(path.read_text()) for path in out.iterdir()}
    assert set(files) == {
        "fairlead-service.json", "fairlead-rollout.json", "fairlead-platform.json",
    }  # fmt: skip
    assert all(f"{document['uid']}.json" == name for name, document in files.items())


def test_a_folder_for_dashboards_that_is_none_is_an_error(run: Run, project: Path) -> None:
    (project / "taken").write_text("")
    done = run("monitor", "dashboards", "--out", str(project / "taken"))
    assert done.code != 0
    assert "taken" in done.err
