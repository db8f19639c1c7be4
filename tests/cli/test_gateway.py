"""`fairlead gateway`: check, key, and a start that is refused."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from cli.simulated_installation import Run
from fairlead.domain.api_keys import api_key_digest
from fairlead.manifest.gateway_file import gateway_file_schema, parse_gateway_file

SERVICE = "services:\n- name: s\n  releases:\n  - {name: r, replicas: [http://h:8000]}\n"
GOOD = "keys: none\n" + SERVICE


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(GOOD)
    return path


def test_check_says_what_is_served(run: Run, config: Path) -> None:
    done = run("gateway", "check", "--config", config)
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{config} is valid",
        "listens on 127.0.0.1:7600 with 1 worker",
        "records: off",
        "metrics are for programs on this machine, and who has the token if there is one",
        "no key is asked for; no limits",
        "may call it: this machine",
        "service s: r 100 % (h:8000)",
        "  in all: no limits",
        "  each request: 256 may wait, 10 s; 3 attempts; 120 s in all; 8388608 bytes",
        "  r: 1 place, 256 requests at a time per worker; broken streams end with an error",
    ]


FULL = f"""\
workers: 2
spool: records
metrics: {{access: token, token_env: SURELY_NOT_SET}}
keys:
- {{name: alice, sha256: {"ab" * 32}, priority: 5, tenant: acme, limits: {{usd_per_month: 20}}}}
- {{name: bob, sha256: {"cd" * 32}}}
tenants: [{{name: acme, limits: {{tokens_per_day: 9000, usd_per_day: 2.5}}}}]
services:
- name: s
  fallbacks: [t]
  balance: least_loaded
  limits: {{attempts: 1, attempt_timeout_seconds: 4, hedge_after_ms: 80, requests_per_minute: 6}}
  shadow: {{release: trial, share: 10%}}
  releases:
  - name: r
    engine: vllm
    model: m
    price: {{input_per_million: 0.15, output_per_million: 0.6}}
    replicas: [http://a:1, {{url: http://b:1, slots: 4}}]
  - {{name: trial, weight: 0, url: https://p/v1}}
- name: t
  releases: [{{name: r, url: https://p/v1}}]
"""


def test_check_says_all_that_is_declared(run: Run, config: Path) -> None:
    config.write_text(FULL)
    done = run("gateway", "check", "--config", config)
    assert done.code == 0
    folder = config.parent / "records"
    assert done.out.splitlines()[1:14] == [
        "listens on 127.0.0.1:7600 with 2 workers",
        f"records: {folder}",
        "metrics are for who has the token",
        f"use of limits: in {folder / 'limits'}",
        "key alice of acme: priority 5, 20 usd per month",
        "key bob: no limits",
        "tenant acme: 9000 tokens per day, 2.5 usd per day",
        "service s: r 100 % (a:1 and 1 more)",
        "  in all: 6 requests per minute",
        "  each request: 256 may wait, 10 s; 1 attempt of 4 s to the first byte; 120 s in all; "
        "8388608 bytes; embeddings hedged after 80 ms",
        "  falls back to: t",
        "  copies 10 % of the requests to trial",
        "  r: 2 places, least_loaded, 260 requests at a time per worker; as m; broken streams go "
        "on; 0.15 and 0.6 USD per million tokens",
    ]
    assert done.out.splitlines()[14].endswith("broken streams end with an error; gets no clients")
    assert done.err.splitlines() == [
        "warning: t, r: has no price, so it costs nothing in limits in USD",
        "warning: metrics.token_env: there is no usable token in the environment variable "
        "SURELY_NOT_SET",
    ]


def test_check_warns_of_a_key_that_is_not_there(run: Run, config: Path) -> None:
    provider = "url: https://h/v1, api_key_env: SURELY_NOT_SET"
    config.write_text(GOOD.replace("replicas: [http://h:8000]", provider))
    done = run("gateway", "check", "--config", config)
    assert done.code == 0
    assert done.err.strip() == "warning: s, r: the environment variable SURELY_NOT_SET is not set"


@pytest.mark.parametrize("command", ["check", "run"])
def test_every_mistake_is_listed_and_nothing_is_started(
    run: Run, config: Path, command: str
) -> None:
    config.write_text("listn: 127.0.0.1:0\n" + SERVICE)
    done = run("gateway", command, "--config", config)
    assert done.code == 2
    assert f'{config}:1: unknown key "listn" (did you mean "listen"?)' in done.err
    assert f'{config}:1: the gateway file needs "keys"' in done.err


def test_a_port_that_is_taken_is_said_so(run: Run, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f"listen: 127.0.0.1:{port}\n" + GOOD)
        done = run("gateway", "run", "--config", config)
    assert done.code == 5
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.err
    assert "choose another port with `listen` in the file" in done.err


def test_a_spool_that_cannot_be_written_is_said_so_before_anything_is_served(
    run: Run, config: Path
) -> None:
    (config.parent / "records").touch()
    config.write_text("listen: 127.0.0.1:0\nspool: records\n" + GOOD)
    done = run("gateway", "run", "--config", config)
    assert done.code == 9
    assert "cannot keep records here" in done.err


def test_a_fresh_key_is_shown_once_with_the_line_for_the_file(run: Run) -> None:
    done = run("gateway", "key", "--name", "alice")
    assert done.code == 0
    key, _, line = done.out.splitlines()
    assert re.fullmatch(r"fl-[\w-]{43}", key)
    file = parse_gateway_file(f"keys:\n{line}\n{SERVICE}", Path("g.yaml"))
    assert [(k.name, k.sha256) for k in file.keys] == [("alice", api_key_digest(key))]
    assert json.loads(run("gateway", "key", "--json").out)["key"] != key
    assert run("gateway", "key", "--name", "a b").code == 2


def test_the_schema_of_the_gateway_file_is_printed(run: Run) -> None:
    assert json.loads(run("schema", "--gateway").out) == gateway_file_schema()


CONFIG = """\
model_list:
  - model_name: m
    litellm_params: {model: openai/gpt-4o, api_key: sk-in-clear-text}
general_settings: {master_key: os.environ/MASTER}
"""


def test_import_writes_a_file_that_checks_and_lists_what_is_lost(run: Run, tmp_path: Path) -> None:
    theirs, out = tmp_path / "config.yaml", tmp_path / "made.yaml"
    theirs.write_text(CONFIG)
    done = run("gateway", "import", "--from", "litellm", theirs, "--out", out)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{theirs}:3: model_list[0].litellm_params.api_key: holds a secret")
    assert lines[1].startswith(f"{theirs}:4: general_settings.master_key: ")
    assert "1 service, 1 release; 2 lines were not carried over as they are" in lines[2]
    key = lines[3].rpartition(" ")[2]
    assert api_key_digest(key) in out.read_text()
    assert "sk-in-clear-text" not in done.out + out.read_text()
    assert run("gateway", "check", "--config", out).code == 0
    again = run("gateway", "import", "--from", "litellm", theirs, "--out", out)
    assert again.code == 7
    assert "it was left as it is" in again.err


def test_import_gives_the_list_as_data(run: Run, tmp_path: Path) -> None:
    theirs, out = tmp_path / "config.yaml", tmp_path / "made.yaml"
    theirs.write_text(CONFIG)
    done = run("gateway", "import", "--from", "litellm", theirs, "--out", out, "--json")
    report = json.loads(done.out)
    assert (done.code, report["services"], report["releases"]) == (0, 1, 1)
    assert [(lost["file"], lost["line"], lost["what"]) for lost in report["lost"]] == [
        (str(theirs), 3, "model_list[0].litellm_params.api_key"),
        (str(theirs), 4, "general_settings.master_key"),
    ]
    assert api_key_digest(report["key"]) in out.read_text()


def test_import_of_what_is_no_such_file_writes_nothing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "made.yaml"
    (tmp_path / "x.toml").write_text("[project]\n")
    done = run("gateway", "import", "--from", "tensorzero", tmp_path / "x.toml", "--out", out)
    assert done.code == 2
    assert "is it a tensorzero.toml?" in done.err
    assert run("gateway", "import", "--from", "nginx", tmp_path / "x.toml").code == 2
    assert run("gateway", "import", "--from", "litellm", tmp_path / "none", "--out", out).code == 2
    assert not out.exists()
