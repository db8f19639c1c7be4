"""Each mistake is one line: file, line number, what is wrong, and the nearest valid name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairlead.domain.errors import ManifestError
from fairlead.manifest import load_manifest, parse_manifest

GOOD = "service: banking\nrelease:\n  model: models/b.gguf\n"
GATE = GOOD + "gates:\n- name: g\n  suite: suite.csv\n"

CASES: dict[str, tuple[str, list[str]]] = {
    "empty file": ("", ["1: the file is empty"]),
    "only a comment": ("# nothing\n", ["1: the file is empty"]),
    "a list instead of a mapping": (
        "- a\n",
        ["1: the manifest must be a mapping (key: value), not a list"],
    ),
    "broken flow sequence": (
        "service: [a\nrelease: b\n",
        ["2: not valid YAML: expected ',' or ']', but got ':' "
         "while parsing a flow sequence from line 1 on"],
    ),
    "a tab": ("a: 1\n\tb: 2", ["2: not valid YAML: a tab stands where YAML wants spaces"]),
    "two documents": (
        "a: 1\n---\nb: 1\n",
        ["2: a second document begins; write one per file"],
    ),
    "a control character": (GOOD + "\x00", ["4: the character U+0000 is not allowed"]),
    "an unknown key near a known one": (
        GOOD.replace("model:", "modle:"),
        ['3: unknown key "modle" in release (did you mean "model"?)'],
    ),
    "an unknown key on top": (
        GOOD + "foo: 1\n",
        ['4: unknown key "foo" (known here: '
         "service, release, replicas, gates, rollout, fallbacks, balance, probes, drill, capture, "
         "judge, bias, slos, monitoring, limits)"],
    ),
    "a key in the wrong place": (
        GOOD + "  temperature: 0\n",
        ['4: unknown key "temperature" in release (it belongs in "release.sampling")'],
    ),
    "a top key too deep": (
        GOOD + "  slos: {}\n",
        ['4: unknown key "slos" in release (it belongs on top)'],
    ),
    "a service as its own fallback": (
        GOOD + "fallbacks: [other, banking]\n",
        ["4: fallbacks[1] is this service itself"],
    ),
    "a fallback that is there twice": (
        GOOD + "fallbacks:\n  - other\n  - other\n",
        ["6: fallbacks[1] is there twice"],
    ),
    "a fallback that is no name": (
        GOOD + "fallbacks: [A b]\n",
        ['4: fallbacks[0] must be a name of lower-case letters, digits, '
         "'-', '_' and '.', at most 63 of them, not \"A b\""],
    ),
    "an unknown engine setting": (
        GOOD + "  engine:\n    settings:\n      contxt: 512\n",
        ['6: unknown key "contxt" in release.engine.settings (did you mean "context"?)'],
    ),
    "a llama.cpp setting for a remote model": (
        "service: x\nrelease:\n  model: openai://h/v1?model=m\n  engine:\n"
        "    settings: {threads: 2}\n",
        ['5: unknown key "threads" in release.engine.settings (known here: slots, probe_path)'],
    ),
    "a missing key": ("release:\n  model: models/b.gguf\n",
                      ['1: the manifest needs the key "service"']),
    "a missing key of a part": (
        "service: x\nrelease:\n  name: a\n",
        ['2: release needs the key "model"'],
    ),
    "a key twice": (
        GOOD + "replicas: 1\nreplicas: 2\n",
        ["5: the key replicas is there twice, see line 4"],
    ),
    "a key that is a number": (GOOD + "1: 2\n", ["4: a key of the file is not text"]),
    "text for a number": (
        GOOD + 'rollout:\n  alpha: "0.01"\n',
        ['5: rollout.alpha must be a number, not "0.01"'],
    ),
    "a fraction for a whole number": (
        GOOD + "limits:\n  queue: 1.5\n",
        ["5: limits.queue must be a whole number, not 1.5"],
    ),
    "a number for text": (
        GOOD + "  prompt:\n    system: 5\n",
        ["5: release.prompt.system must be text, not 5"],
    ),
    "yes for true": (
        GOOD + "  engine:\n    settings:\n      embeddings: yes\n",
        ['6: release.engine.settings.embeddings must be true or false, not "yes"'],
    ),
    "a section without content": (
        GOOD + "slos:\n",
        ["4: slos must be a mapping (key: value), not nothing"],
    ),
    "a value out of range": (
        GOOD + "replicas:\n  champion: 0\n",
        ["5: replicas.champion must be at least 1, not 0"],
    ),
    "not a number": (
        GOOD + "slos:\n  ttft_p95_ms: .nan\n",
        ["5: slos.ttft_p95_ms must be a finite number, not nan"],
    ),
    "a number with too many digits": (
        GOOD + "limits:\n  attempts: " + "9" * 5000,
        ["5: limits.attempts has a value that cannot be read"],
    ),
    "a share above one": (
        GATE + "  scorer: exact\n  minimum: 120%\n",
        ['8: gates[0].minimum must be a share: a percentage such as "10%" or a number from 0 to 1, '
         'not "120%"'],
    ),
    "a step with all the traffic": (
        GOOD + "rollout:\n  steps:\n  - share: 10%\n  - share: 100%\n",
        ["7: rollout.steps[1].share must be above 0% and below 100%: canary and champion are "
         "compared under the same traffic; not 1.0"],
    ),
    "steps that do not grow": (
        GOOD + "rollout:\n  steps:\n  - share: 50%\n  - share: 10%\n",
        ["7: rollout.steps[1].share must be above the share of the step before"],
    ),
    "a deadline before the steps are over": (
        GOOD + "rollout:\n  steps: [{share: 10%}, {share: 50%}]\n  deadline_minutes: 1\n",
        ["6: rollout.deadline_minutes must be longer than the steps take at least: 90 seconds"],
    ),
    "an alpha that no evidence can reach": (
        GOOD + "rollout:\n  alpha: 1.0e-10\n  beta: 0.6\n",
        [
            "5: rollout.alpha must be at least 1e-09, not 1e-10",
            "6: rollout.beta must be at most 0.5, not 0.6",
        ],
    ),
    "a margin within the tolerance": (
        GOOD + "rollout: {tolerance: 0.1, margin: 0.05}\n",
        ["4: rollout.margin must be above the tolerance, 0.1"],
    ),
    "an unknown kind of receiver": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n"
        "    to: {kind: pagerdutty, key_env: ALERT_K}\n",
        ["7: monitoring.routes[0].to.kind must be one of webhook, slack, pagerduty, email, "
         'alertmanager, apprise, not "pagerdutty" (did you mean "pagerduty"?)'],
    ),
    "a receiver's key misspelt": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n"
        "    to: {kind: pagerduty, kee_env: ALERT_K}\n",
        ['7: unknown key "kee_env" in monitoring.routes[0].to (did you mean "key_env"?)'],
    ),
    "a variable that is not a receiver's": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n    to:\n      kind: slack\n"
        "      url_env: OPENAI_API_KEY\n",
        ["9: monitoring.routes[0].to.url_env must begin with ALERT_, such as ALERT_SLACK_URL: "
         "receivers are given no other variable of the environment; name yours so"],
    ),
    "a variable that says for whom another one is": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n    to:\n      kind: slack\n"
        "      url_env: ALERT_SLACK_FOR\n",
        ["9: monitoring.routes[0].to.url_env must not end with _FOR: such a variable says for "
         "which services another one is"],
    ),
    "a secret where its name belongs": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n    to:\n      kind: slack\n"
        "      url_env: https://hooks.example/SECRET\n",
        ["9: monitoring.routes[0].to.url_env must be the name of an environment variable "
         "(never the secret itself)"],
    ),
    "a webhook of a cloud's metadata": (
        GOOD + "monitoring:\n  routes:\n  - name: ops\n    to:\n      kind: webhook\n"
        "      url: http://169.254.169.254/latest\n",
        ["9: monitoring.routes[0].to.url must not lead there: 169.254.169.254 is not an address "
         "that requests are sent to"],
    ),
    "a matcher that is none": (
        GOOD + "monitoring:\n  actions:\n  - {do: roll_back, monitors: [slo], match: [ttft]}\n",
        ['6: monitoring.actions[0].match[0] must be like "slo=ttft", with =, !=, =~ or !~, '
         'not "ttft"'],
    ),
    "an action that needs what is not declared": (
        GOOD + "monitoring:\n  actions:\n  - {do: fallback, monitors: [slo]}\n",
        ['6: monitoring.actions[0].do "fallback" needs `fallbacks`'],
    ),
    "a cost without a price": (
        GOOD + "slos:\n  usd_per_request: 0.01\n",
        ["5: slos.usd_per_request needs release.price"],
    ),
    "a missing model": (
        GOOD.replace("b.gguf", "bb.gguf"),
        ['3: release.model names a file that is not there: "models/bb.gguf" '
         '(did you mean "models/b.gguf"?)'],
    ),
    "a missing folder": (
        GOOD.replace("models/", "there/"),
        ['3: release.model names a file that is not there: "there/b.gguf" '
         '(there is no folder "there" either)'],
    ),
    "a missing suite": (
        GATE.replace("suite.csv", "suit.csv") + "  scorer: exact\n  minimum: 1\n",
        ['6: gates[0].suite names a file that is not there: "suit.csv" '
         '(did you mean "suite.csv"?)'],
    ),
    "a folder for a suite": (
        GATE.replace("suite.csv", "models") + "  scorer: exact\n  minimum: 1\n",
        ['6: gates[0].suite is a folder, not a file: "models"'],
    ),
    "a suite of another kind": (
        GATE.replace("suite.csv", "models/b.gguf") + "  scorer: exact\n  minimum: 1\n",
        ['6: gates[0].suite must end in .yaml, .jsonl or .csv, not ".gguf"'],
    ),
    "an unknown scorer": (
        GATE + "  scorer: exat\n  minimum: 1\n",
        ["7: gates[0].scorer must be one of exact, contains, regex, json_schema, json_field, "
         'numeric, not "exat" (did you mean "exact"?)'],
    ),
    "a scorer without its kind": (
        GATE + "  scorer:\n    field: a\n  minimum: 1\n",
        ['7: gates[0].scorer needs the key "kind"'],
    ),
    "a scorer's key misspelt": (
        GATE + "  scorer:\n    kind: json_field\n    feild: a\n  minimum: 1\n",
        ['9: unknown key "feild" in gates[0].scorer (did you mean "field"?)'],
    ),
    "a broken pattern": (
        GATE + "  scorer: {kind: regex, pattern: '(a'}\n  minimum: 1\n",
        ["7: gates[0].scorer.pattern is not a regular expression: unclosed group"],
    ),
    "a schema file that is not JSON": (
        GATE + "  scorer: {kind: json_schema, schema: suite.csv}\n  minimum: 1\n",
        ["7: gates[0].scorer.schema is not JSON: suite.csv: "
         "Expecting value: line 1 column 1 (char 0)"],
    ),
    "a gate that asks for nothing": (
        GATE + "  scorer: exact\n",
        ['5: gates[0] asks for nothing: give "minimum" or "non_inferiority"'],
    ),
    "two gates of one name": (
        GATE + "  scorer: exact\n  minimum: 1\n- name: g\n  suite: suite.csv\n  scorer: exact\n"
        "  minimum: 1\n",
        ['9: gates[1].name "g" is the name of an earlier gate'],
    ),
    "gates for embeddings": (
        GOOD + "  engine: {settings: {embeddings: true}}\n" + GATE[len(GOOD):]
        + "  scorer: exact\n  minimum: 1\n",
        ["5: gates need a release that completes; this one serves embeddings"],
    ),
    "an unknown engine": (
        GOOD + "  engine:\n    kind: llamacpp\n",
        ['5: release.engine.kind must be one of llama.cpp, remote, not "llamacpp" '
         '(did you mean "llama.cpp"?)'],
    ),
    "an engine that does not fit the model": (
        GOOD + "  engine:\n    kind: remote\n",
        ['4: release.engine must be of kind "llama.cpp" for this model'],
    ),
    "a service name with capitals": (
        GOOD.replace("banking", "Banking"),
        ["1: service must be a name of lower-case letters, digits, '-', '_' and '.', at most 63 of "
         'them, not "Banking"'],
    ),
    "a prompt without its slot": (
        GOOD + "  prompt:\n    user: Hello\n",
        ["5: release.prompt.user must hold {input} exactly once"],
    ),
    "an alias bomb": (
        GOOD + "a: &a [1,1,1,1,1,1,1,1]\n"
        + "".join(f"{y}: &{y} [{','.join(['*' + x] * 8)}]\n"
                  for x, y in zip("abcdef", "bcdefg", strict=True)),
        ["4: more than 20000 values, aliases expanded"],
    ),
    "an alias of itself": (GOOD + "a: &a [*a]\n", ["4: nested deeper than 20 levels"]),
    "deep nesting": (GOOD + "a: " + "[" * 5000, ["4: nested deeper than 20 levels"]),
    "a tag": (
        GOOD + "a: !!python/object/apply:os.system [x]\n",
        ["4: the tag !!python/object/apply:os.system is not supported"],
    ),
    "several mistakes, by line": (
        "service: 1\nrelease:\n  model: models/b.gguf\n  nam: x\nreplicas: two\n",
        ["1: service must be a name of lower-case letters, digits, '-', '_' and '.', at most 63 of "
         "them, not 1",
         '4: unknown key "nam" in release (did you mean "name"?)',
         '5: replicas must be a mapping (key: value), not "two"'],
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "b.gguf").touch()
    (tmp_path / "suite.csv").write_text("input,expected\na,b\n")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_that_says_where_and_what(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text, expected = CASES[name]
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, Path("fairlead.yaml"))
    assert caught.value.message.splitlines() == [f"fairlead.yaml:{line}" for line in expected]


def test_what_is_there_but_no_regular_file_is_said_to_be_that(folder: Path) -> None:
    (folder / "suite.csv").unlink()
    os.mkfifo(folder / "suite.csv")
    with pytest.raises(ManifestError) as caught:
        parse_manifest(GATE + "  scorer: exact\n  minimum: 1\n", folder / "fairlead.yaml")
    assert caught.value.message.endswith(
        ':6: gates[0].suite is not a regular file (a device, a pipe or a socket): "suite.csv"'
    )


REMOTE = {
    "openai://h": "openai://host/v1?model=NAME",
    "openai://h/v1": "must name the provider's model once",
    "openai://h/v1?model=a&model=b": "must name the provider's model once",
    "openai://h/v1?model=a&key=sk-1": 'unknown parameter "key"',
    "openai://user:pw@h/v1?model=a": "must not hold credentials",
    "openai://h:99999/v1?model=a": "must have the form",
    "openai:///v1?model=a": "must have the form",
    "openai+http://h/v1?model=a": "unencrypted",
    "opena://h/v1?model=a": 'did you mean "openai://"?',
    "https://h/v1": "openai://host/v1?model=NAME for an endpoint",
    "oci://h/v1": "OCI registry",
    "hf://org": "hf://org/repo@revision",
    "hf://org/repo": "must name a revision",
    "hf://org/repo@main/../x": "must not leave",
}


@pytest.mark.parametrize("model", REMOTE)
def test_an_address_that_cannot_be_used_says_what_form_it_has(model: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(f'service: x\nrelease:\n  model: "{model}"\n', Path("fairlead.yaml"))
    assert caught.value.message.startswith("fairlead.yaml:3: release.model ")
    assert REMOTE[model] in caught.value.message
    assert "\n" not in caught.value.message


def test_a_key_written_where_its_place_belongs_is_not_repeated() -> None:
    text = "service: x\nrelease:\n  model: openai://h/v1?model=m\n  api_key_env: sk-123\n"
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, Path("fairlead.yaml"))
    assert caught.value.message == (
        "fairlead.yaml:4: release.api_key_env must be the name of an environment variable "
        "(never the key itself)"
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  api_key_env: A\n", "4: release.api_key_env is only for a model at openai://"),
        ("  api_key_file: a\n", "4: release.api_key_file must be an absolute path"),
    ],
)
def test_a_key_for_a_model_file_or_a_relative_key_file_is_a_mistake(
    more: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ManifestError) as caught:
        parse_manifest(GOOD + more, Path("fairlead.yaml"))
    assert caught.value.message == f"fairlead.yaml:{message}"


def test_nothing_is_sent_unencrypted_to_another_machine() -> None:
    text = "service: x\nrelease:\n  model: openai+http://{}/v1?model=m\n  api_key_env: A\n"
    with pytest.raises(ManifestError, match="unencrypted"):
        parse_manifest(text.format("example.org"), Path("fairlead.yaml"))
    assert parse_manifest(text.format("127.0.0.1:8000"), Path("fairlead.yaml"))


def test_a_file_that_is_not_there_not_text_or_too_large_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    with pytest.raises(ManifestError, match="there is no such file") as caught:
        load_manifest(path)
    assert "fairlead init" in (caught.value.hint or "")
    path.write_bytes(b"service: a\n# \xff\n")
    with pytest.raises(ManifestError, match=r"fairlead\.yaml:2: not UTF-8 text"):
        load_manifest(path)
    path.write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(ManifestError, match="larger than 262144 bytes"):
        load_manifest(path)
    with pytest.raises(ManifestError, match="cannot be read: Is a directory"):
        load_manifest(tmp_path)


def test_at_most_fifty_mistakes_are_listed() -> None:
    text = "".join(f"key{i}: 1\n" for i in range(80))
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, Path("fairlead.yaml"))
    lines = caught.value.message.splitlines()
    assert len(lines) == 51
    assert lines[-1] == "fairlead.yaml: and 32 more"
