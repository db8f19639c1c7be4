"""What a manifest says arrives as it was written, and paths start at its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import ManifestError
from fairlead.manifest import (
    HubSource,
    LocalSource,
    RemoteSource,
    load_manifest,
    parse_manifest,
    starting_point,
)
from fairlead.manifest.lines import read_yaml

FULL = """\
service: banking
release:
  name: b
  model: models/b.gguf
  engine: {settings: {context: 512, slots: 2, threads: 1}}
  prompt: {system: "You are a bank.", user: "Q: {input}"}
  sampling: {temperature: 0, max_tokens: 16, stop: "\\n"}
replicas: 3
gates:
  - name: intents
    suite: suite.csv
    columns: {input: text, expected: category}
    scorer: {kind: json_field, field: intent}
    minimum: 75%
    non_inferiority: {margin: 0.05}
  - {name: form, suite: suite.csv, scorer: {kind: json_schema, schema: answer.json}, minimum: 1}
rollout:
  steps: [{share: 10%, requests: 50, seconds: 5}, {share: 0.5}]
  feedback: {name: success}
slos: {availability: 99.9%}
limits: {body_bytes: 1MiB}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "b.gguf").touch()
    (tmp_path / "models" / "model.gguf").touch()
    (tmp_path / "suite.csv").write_text("input,expected\na,b\n")
    (tmp_path / "answer.json").write_text('{"type": "object"}')
    return tmp_path


def test_a_full_manifest_is_read_as_it_is_written(folder: Path) -> None:
    path = folder / "fairlead.yaml"
    path.write_text("\ufeff" + FULL, encoding="utf-8")
    manifest = load_manifest(path)
    release = manifest.release
    assert manifest.service == "banking"
    assert release.model == LocalSource(folder / "models" / "b.gguf")
    assert release.source_text == str(folder / "models" / "b.gguf")
    assert release.engine.kind == "llama.cpp"
    assert release.settings == {
        "context": 512, "slots": 2, "threads": 1, "batch": 512,
        "embeddings": False, "pooling": "", "chat_template": "",
    }  # fmt: skip
    assert release.sampling_defaults == {"temperature": 0, "max_tokens": 16, "stop": ["\n"]}
    assert (manifest.replicas.champion, manifest.replicas.canary) == (3, 1)
    intents, form = manifest.gates
    assert intents.suite == folder / "suite.csv"
    assert intents.suite_format == "csv"
    assert intents.minimum == 0.75
    assert intents.scorer_document == {"kind": "json_field", "field": "intent"}
    assert intents.columns.model_dump(exclude_none=True) == {
        "input": "text",
        "expected": "category",
    }
    assert form.scorer_document == {"kind": "json_schema", "schema": {"type": "object"}}
    assert [step.share for step in manifest.rollout.steps] == [0.1, 0.5]
    assert manifest.rollout.feedback is not None
    assert manifest.slos.availability == 0.999
    assert manifest.limits.body_bytes == 1 << 20


def test_paths_start_at_the_manifest_not_at_the_present_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "fairlead.yaml").write_text("service: a\nrelease: {model: models/b.gguf}\n")
    monkeypatch.chdir(folder / "elsewhere")
    manifest = load_manifest(Path("../fairlead.yaml"))
    assert Path(manifest.release.source_text).resolve() == folder / "models" / "b.gguf"


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("openai://h/v1?model=m", RemoteSource("https://h/v1", "m")),
        ("openai://h:8443?model=a%2Fb", RemoteSource("https://h:8443/v1", "a/b")),
        ("openai+http://[::1]:80/x/v1?model=m", RemoteSource("http://[::1]:80/x/v1", "m")),
        ("hf://org/repo@abc123", HubSource("org/repo", "abc123")),
        ("hf://org/repo@v1.0/q/m.gguf", HubSource("org/repo", "v1.0", "q/m.gguf")),
        ("hf://org/repo@refs%2Fpr%2F1", HubSource("org/repo", "refs%2Fpr%2F1")),
    ],
)
def test_an_address_is_taken_apart_and_can_be_put_together(model: str, source: object) -> None:
    text = "service: a\nrelease:\n  model: '{}'\n"
    release = parse_manifest(text.format(model), Path("f.yaml")).release
    assert release.model == source
    again = parse_manifest(text.format(release.source_text), Path("f.yaml")).release
    assert again.model == source
    assert release.engine.kind == ("remote" if isinstance(source, RemoteSource) else "llama.cpp")


def test_scalars_follow_yaml_1_2_so_that_words_stay_words() -> None:
    located = read_yaml(
        "[no, on, y, 1:30, 2026-01-01, 0o17, 0x1F, 010, 1e3, .5, ~, true, '5', -.inf]"
    )
    assert located.data == [
        "no", "on", "y", "1:30", "2026-01-01", 15, 31, 10, 1000.0, 0.5, None, True, "5",
        float("-inf"),
    ]  # fmt: skip
    assert not located.problems


def test_an_alias_stands_for_its_anchor() -> None:
    located = read_yaml("a: &x {b: 1}\nc: *x\n")
    assert located.data == {"a": {"b": 1}, "c": {"b": 1}}


def test_every_key_and_item_has_its_line() -> None:
    located = read_yaml("a:\n  - b: 1\n    c:\n      2\n  - d\n")
    assert located.lines == {
        (): 1, ("a",): 1, ("a", 0): 2, ("a", 0, "b"): 2, ("a", 0, "c"): 3, ("a", 1): 5,
    }  # fmt: skip


@given(text=st.text(max_size=200))
def test_any_text_is_a_manifest_or_an_error_with_file_and_line(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, Path("fairlead.yaml"))
    for line in caught.value.message.splitlines():
        assert line.startswith("fairlead.yaml:")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_one_damaged_character_never_ends_in_another_exception(
    data: st.DataObject, folder: Path
) -> None:
    text = starting_point("x")
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from(":{}[]-&*!|>'\"%@\t\n #?,x0")) + text[at + 1 :]
    try:
        parse_manifest(damaged, folder / "fairlead.yaml")
    except ManifestError as error:
        assert all(  # noqa: PT017 - either way of ending is right
            line.startswith(f"{folder / 'fairlead.yaml'}:") for line in error.message.splitlines()
        )


def test_the_starting_point_loads_once_its_files_are_there(folder: Path) -> None:
    manifest = parse_manifest(starting_point("my-service"), folder / "fairlead.yaml")
    assert manifest.service == "my-service"
    assert manifest.gates[0].non_inferiority is not None


def test_what_the_starting_point_comments_out_is_valid_too(folder: Path) -> None:
    text = starting_point("a")
    for commented in ("system:", "feedback:"):
        assert f"# {commented}" in text
        text = text.replace(f"# {commented}", commented)
    manifest = parse_manifest(text, folder / "fairlead.yaml")
    assert manifest.release.prompt.system
    assert manifest.rollout.feedback is not None
