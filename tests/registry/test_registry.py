"""Releases are named by their content, listed under names, and found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import Conflict, InvalidInput, ModelFileRefused, NotFound
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import Outbound
from fairlead.domain.release import Engine, Prompt, RemoteModel, sha256_digest
from fairlead.registry import BuildInput, Registry
from registry.model_writer import ENTRIES, gguf, number_entry, safetensors, write

Given = Callable[..., BuildInput]
REMOTE = Engine(kind="remote")


def test_a_release_is_built_listed_and_read_back(registry: Registry, given: Given) -> None:
    entry = registry.build(given(prompt=Prompt(system="Be brief.")), now=1_700_000_000.25)
    assert registry.list() == [entry]
    assert registry.list("bank") == [entry]
    assert registry.list("other") == []
    assert registry.get(entry.digest) == entry
    assert (entry.name, entry.service, entry.created_at) == ("a", "bank", 1_700_000_000.25)
    assert entry.release.prompt.system == "Be brief."
    (path,) = registry.weights(entry.digest)
    assert path.read_bytes() == gguf()
    assert [facts.name for facts in registry.describe(entry.digest)] == ["tiny"]
    assert registry.verify() == []


def test_the_same_inputs_give_the_same_digest_anywhere(
    tmp_path: Path, registry: Registry, given: Given, model: Path
) -> None:
    """Place of the file and the registry, name, service, time and order of keys do not count."""
    first = registry.build(given(sampling={"seed": 1, "top_p": 0.5}), now=1.0)
    copy = tmp_path / "elsewhere" / model.name
    copy.parent.mkdir()
    shutil.copy(model, copy)
    second = Registry(tmp_path / "another").build(
        given(model=copy, sampling={"top_p": 0.5, "seed": 1}, name="z", service="y"), now=9.0
    )
    assert first.digest == second.digest


def test_the_digest_of_a_known_release_never_changes(registry: Registry, given: Given) -> None:
    """Stored digests would otherwise point at nothing after an update."""
    entry = registry.build(given(), now=1.0)
    assert entry.digest == KNOWN_DIGEST


KNOWN_DIGEST = "sha256:2f5d5c7741a1118dde9052ef1a49c18211879e9720b7d23438e273a5f00dc739"


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": Prompt(user="Q: {input}")},
        {"sampling": {"temperature": 1}},
        {"engine": Engine(kind="llama.cpp", settings={"n_ctx": 256})},
    ],
)
def test_anything_that_changes_answers_changes_the_digest(
    changes: dict[str, Any], registry: Registry, given: Given
) -> None:
    assert (
        registry.build(given(), now=1.0).digest != registry.build(given(**changes), now=1.0).digest
    )


def test_the_layout_is_as_the_oci_specification_has_it(
    registry: Registry, given: Given, root: Path
) -> None:
    entry = registry.build(given(), now=1_700_000_000.0)
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((root / "index.json").read_bytes())
    assert (index["schemaVersion"], index["mediaType"]) == (
        2,
        "application/vnd.oci.image.index.v1+json",
    )
    (listed,) = index["manifests"]
    assert listed["digest"] == entry.digest
    assert listed["annotations"]["org.opencontainers.image.ref.name"] == "bank/a"
    assert listed["annotations"]["org.opencontainers.image.created"].startswith(
        "2023-11-14T22:13:20"
    )
    content = registry.read_blob(entry.digest)
    assert (len(content), sha256_digest(content)) == (listed["size"], entry.digest)
    manifest = json.loads(content)
    assert manifest["mediaType"] == listed["mediaType"]
    assert manifest["artifactType"] == listed["artifactType"]
    sizes = [len(content)]
    for part in (manifest["config"], *manifest["layers"]):
        blob = registry.read_blob(part["digest"])
        assert len(blob) == part["size"]
        sizes.append(len(blob))
    assert manifest["layers"][0]["annotations"] == {"org.opencontainers.image.title": "m.gguf"}
    assert registry.read_blob(manifest["config"]["digest"]) == entry.release.canonical()
    assert entry.size == sum(sizes)
    assert {p.name for p in (root / "blobs" / "sha256").iterdir()} == {
        digest.removeprefix("sha256:")
        for digest in (entry.digest, manifest["config"]["digest"], manifest["layers"][0]["digest"])
    }


def test_a_remote_release_has_no_files_and_keeps_no_key(registry: Registry, given: Given) -> None:
    entry = registry.build(
        given(model="openai://api.example.com/v1?model=m-1", engine=REMOTE, api_key_env="KEY"),
        now=1.0,
    )
    assert entry.release.model == RemoteModel(
        base_url="https://api.example.com/v1", model="m-1", api_key_env="KEY"
    )
    assert registry.weights(entry.digest) == []
    assert registry.describe(entry.digest) == []
    assert registry.verify() == []


def test_the_way_to_a_provider_is_part_of_its_release(registry: Registry, given: Given) -> None:
    way = Outbound(ca_file="/etc/ca.pem", proxy="http://proxy.example:3128")
    model = {"model": "openai://api.example.com/v1?model=m-1", "engine": REMOTE}
    plain, other = (
        registry.build(given(**model, **more), now=1.0) for more in ({}, {"outbound": way})
    )
    assert plain.release.model == RemoteModel("https://api.example.com/v1", "m-1")
    assert other.release.model == RemoteModel("https://api.example.com/v1", "m-1", outbound=way)
    assert plain.digest != other.digest
    with pytest.raises(InvalidInput, match="are for openai:// models only"):
        registry.build(given(outbound=way), now=1.0)


def test_a_folder_is_handed_out_under_its_file_names(
    tmp_path: Path, registry: Registry, given: Given
) -> None:
    folder = tmp_path / "model"
    contents = {
        "model-00001-of-00002.safetensors": safetensors(),
        "model-00002-of-00002.safetensors": safetensors(data=b"\1" * 8),
        "config.json": b'{"model_type":"llama"}',
        "merges.txt": b"a b",
        "README.md": b"# not part of the model",
    }
    for name, data in contents.items():
        write(folder / name, data)
    entry = registry.build(given(model=folder), now=1.0)
    paths = registry.weights(entry.digest)
    assert [path.name for path in paths] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "config.json",
        "merges.txt",
    ]
    assert len({path.parent for path in paths}) == 1
    assert {path.name: path.read_bytes() for path in paths} == {
        name: data for name, data in contents.items() if name != "README.md"
    }
    assert registry.weights(entry.digest) == paths
    (paths[0].parent / "config.json").unlink()
    write(paths[0].parent / "left.json", b"{}")
    assert registry.weights(entry.digest) == paths
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelFileRefused, match=r"00001-of-00002\.safetensors is missing"):
        registry.build(given(model=folder), now=2.0)


def test_a_split_gguf_comes_with_all_its_parts(
    tmp_path: Path, registry: Registry, given: Given
) -> None:
    part = gguf(entries=(*ENTRIES, number_entry("split.count", 2)))
    first = write(tmp_path / "s" / "m-00001-of-00002.gguf", part)
    with pytest.raises(ModelFileRefused, match=r"m-00002-of-00002\.gguf is missing"):
        registry.build(given(model=first), now=1.0)
    write(tmp_path / "s" / "m-00002-of-00002.gguf", part)
    entry = registry.build(given(model=first), now=1.0)
    assert [path.name for path in registry.weights(entry.digest)] == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]
    alone = write(tmp_path / "s" / "renamed.gguf", part)
    with pytest.raises(ModelFileRefused, match="one of 2 parts, 1 are here"):
        registry.build(given(model=alone), now=1.0)


def test_a_reference_is_a_digest_its_beginning_or_a_name(registry: Registry, given: Given) -> None:
    a = registry.build(given(), now=1.0).digest
    b = registry.build(given(name="b", sampling={}), now=2.0).digest
    for reference in (a, a.removeprefix("sha256:"), a[:13], a[7:13], "a", "bank/a"):
        assert registry.resolve(reference) == a
    assert registry.resolve("b", "bank") == b


def test_an_unknown_reference_names_the_nearest(registry: Registry, given: Given) -> None:
    with pytest.raises(NotFound, match="no release 'x'") as none_yet:
        registry.resolve("x")
    assert "fairlead release build" in str(none_yet.value.hint)
    registry.build(given(name="better"), now=1.0)
    with pytest.raises(NotFound, match="no release 'bettr'") as near:
        registry.resolve("bettr")
    assert near.value.hint == "did you mean better?"
    with pytest.raises(NotFound, match="of service shop"):
        registry.resolve("better", "shop")
    with pytest.raises(NotFound, match="no release 'abcd'"):
        registry.resolve("abcd")


def test_a_name_of_two_services_is_ambiguous_unless_the_service_is_given(
    registry: Registry, given: Given
) -> None:
    one = registry.build(given(), now=1.0).digest
    two = registry.build(given(service="shop", sampling={}), now=2.0).digest
    with pytest.raises(Conflict, match=r"bank/a .* shop/a"):
        registry.resolve("a")
    assert registry.resolve("a", "bank") == one
    assert registry.resolve("shop/a") == two


def test_a_name_means_the_release_last_built_under_it(
    registry: Registry, given: Given, root: Path
) -> None:
    old = registry.build(given(), now=1.0)
    new = registry.build(given(sampling={}), now=2.0)
    assert registry.resolve("a") == new.digest
    assert [entry.digest for entry in registry.list()] == [old.digest, new.digest]
    registry.build(given(), now=3.0)
    assert registry.resolve("a") == old.digest
    assert registry.get(old.digest).created_at == 3.0
    assert len(registry.list()) == 2
    refs = [
        entry["digest"]
        for entry in json.loads((root / "index.json").read_bytes())["manifests"]
        if "org.opencontainers.image.ref.name" in entry["annotations"]
    ]
    assert refs == [old.digest]


def test_the_same_release_may_have_several_names(registry: Registry, given: Given) -> None:
    one = registry.build(given(), now=1.0)
    two = registry.build(given(service="shop", name="b"), now=2.0)
    assert one.digest == two.digest
    assert [(t.service, t.name) for t in registry.tags()] == [("bank", "a"), ("shop", "b")]
    assert [entry.name for entry in registry.list("shop")] == ["b"]
    assert registry.get(one.digest).name == "b"


def test_differences_are_named_by_field(registry: Registry, given: Given, tmp_path: Path) -> None:
    other = write(tmp_path / "n.gguf", gguf(fill=b"\2"))
    a = registry.build(given(prompt=Prompt(system="Hello"), sampling={"seed": None}), now=1.0)
    b = registry.build(given(model=other, sampling={"stop": ["."], "seed": 1}), now=1.0)
    found = {each.path: (each.before, each.after) for each in registry.diff(a.digest, b.digest)}
    assert set(found) == {"model.file", "prompt.system", "sampling.seed", "sampling.stop"}
    assert found["prompt.system"] == ("Hello", "(none)")
    assert found["sampling.seed"] == ("null", "1")
    assert found["sampling.stop"] == ("(none)", '["."]')
    before, after = found["model.file"]
    assert before.startswith("m.gguf ")
    assert after == f"n.gguf {sha256_digest(other.read_bytes())[7:19]} ({len(gguf()):,} bytes)"
    assert registry.diff(a.digest, a.digest) == []


def test_guardrails_that_differ_are_named(registry: Registry, given: Given) -> None:
    flags = Guardrail("secrets", "prompt", phrases=("a",))
    blocks = Guardrail("secrets", "prompt", "block", phrases=("a",))
    other = Guardrail("long", "answer", max_characters=9)
    a = registry.build(given(guardrails=(flags,)), now=1.0)
    b = registry.build(given(guardrails=(blocks, other)), now=1.0)
    found = {each.path: (each.before, each.after) for each in registry.diff(a.digest, b.digest)}
    assert found == {
        "guardrails.secrets.action": ("flag", "block"),
        "guardrails.long.action": ("(none)", "flag"),
        "guardrails.long.max_characters": ("(none)", "9"),
        "guardrails.long.on": ("(none)", "answer"),
    }
    assert registry.get(b.digest).release.guardrails == (blocks, other)


def test_differences_between_weights_and_a_remote_model_are_shown(
    registry: Registry, given: Given
) -> None:
    a = registry.build(given(), now=1.0)
    b = registry.build(given(model="openai://h/v1?model=m", engine=REMOTE), now=1.0)
    paths = {each.path for each in registry.diff(a.digest, b.digest)}
    assert {"model.type", "model.base_url", "model.files[m.gguf]", "engine.kind"} <= paths


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": ""}, "release name"),
        ({"name": "a b"}, "release name"),
        ({"service": "../x"}, "service name"),
        ({"engine": REMOTE}, "needs an engine that loads weights"),
        ({"model": "openai://h/v1?model=m"}, "needs the remote engine"),
        ({"api_key_env": "KEY"}, "are for openai:// models only"),
        ({"sampling": {"temperature": float("nan")}}, "NaN"),
        ({"prompt": Prompt(system="\ud800")}, "cannot be stored"),
        ({"model": "models/m.gguf"}, "is not absolute"),
        ({"guardrails": (Guardrail("x", "prompt", patterns=("(",)),)}, "cannot be used"),
    ],
)
def test_input_that_cannot_be_a_release_is_refused_and_nothing_changes(
    changes: dict[str, Any],
    why: str,
    registry: Registry,
    given: Given,
    files_in: Callable[[], dict[str, bytes]],
) -> None:
    before = files_in()
    with pytest.raises(InvalidInput, match=why):
        registry.build(given(**changes), now=1.0)
    assert files_in() == before


def test_a_missing_model_is_named_with_its_nearest_neighbour(
    registry: Registry,
    given: Given,
    model: Path,
    files_in: Callable[[], dict[str, bytes]],
) -> None:
    before = files_in()
    with pytest.raises(NotFound, match=r"n\.gguf does not exist") as caught:
        registry.build(given(model=model.with_name("n.gguf")), now=1.0)
    assert caught.value.hint == "did you mean m.gguf?"
    with pytest.raises(NotFound):
        registry.build(given(model="/no/such/folder/m.gguf"), now=1.0)
    assert files_in() == before


def test_a_truncated_model_is_refused_and_nothing_changes(
    registry: Registry,
    given: Given,
    model: Path,
    files_in: Callable[[], dict[str, bytes]],
) -> None:
    before = files_in()
    model.write_bytes(gguf(pad_last=False)[:-10])
    with pytest.raises(ModelFileRefused, match="10 bytes are missing") as caught:
        registry.build(given(), now=1.0)
    assert str(model) in caught.value.message
    assert files_in() == before


def test_progress_is_told_by_file_up_to_the_end(registry: Registry, given: Given) -> None:
    told: list[tuple[str, int, int]] = []
    registry.build(given(), now=1.0, progress=lambda *step: told.append(step))
    assert told[-1] == ("m.gguf", len(gguf()), len(gguf()))


def test_a_stored_model_is_not_written_again(registry: Registry, given: Given, root: Path) -> None:
    entry = registry.build(given(), now=1.0)
    (path,) = registry.weights(entry.digest)
    before = path.stat()
    again = registry.build(given(prompt=Prompt(system="x")), now=2.0)
    assert again.release.engine_digest == entry.release.engine_digest
    assert registry.weights(again.digest)[0].stat().st_ino == before.st_ino
    assert list((root / "fairlead" / "staging").iterdir()) == []
