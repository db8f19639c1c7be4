"""What a release may say of its engine, and how it is launched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import Blob, Engine, Release, RemoteModel, WeightsModel
from fairlead.engines.launching import check, launch
from fairlead.engines.llamacpp.settings import ENGINE, LlamaCppSettings
from fairlead.engines.settings import read_settings

FILE = Blob(digest="sha256:" + "0" * 64, size=1, name="bank-a.gguf")
URL = "https://models.example/v1"


def local(**settings: bool | int | float | str) -> Release:
    return Release(
        model=WeightsModel(format="gguf", files=(FILE,)),
        engine=Engine(kind="llama.cpp", settings=settings),
    )


def remote(base_url: str = URL, **model: str) -> Release:
    return Release(
        model=RemoteModel(base_url=base_url, model="m", **model), engine=Engine(kind="remote")
    )


def test_a_llama_cpp_launch_carries_model_settings_and_places_for_the_target() -> None:
    made = launch(local(slots=2, context=512), [Path("/blobs/sha256/00")])
    words = dict(zip(made.argv[4::2], made.argv[5::2], strict=True))
    assert made.argv[1:4] == ("-P", "-m", "fairlead.engines.llamacpp")
    assert words["--model"] == "/blobs/sha256/00"
    assert words["--alias"] == "bank-a"
    assert words["--ready-file"] == "{ready_file}"
    assert words["--parent"] == "{supervisor_pid}"
    assert json.loads(words["--settings"])["slots"] == made.slots == 2
    assert made.probe_path == "/v1/completions"
    assert made.probe_body == {"prompt": "ok", "max_tokens": 1, "temperature": 0}


def test_an_engine_for_embeddings_is_probed_by_an_embedding() -> None:
    made = launch(local(embeddings=True), [Path("/m.gguf")])
    assert (made.probe_path, made.probe_body) == ("/v1/embeddings", {"input": "ok"})


def test_a_relative_path_is_made_absolute_because_the_replica_has_another_folder() -> None:
    made = launch(local(), [Path("m.gguf")])
    assert Path(made.argv[5]).is_absolute()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contxt": 512}, r"unknown setting `contxt`\n.*Did you mean `context`"),
        ({"xyzzy": 1}, r"unknown setting `xyzzy`\n  Known settings: batch, chat_template"),
        ({"slots": "4"}, r"`slots` is '4', but has to be a whole number"),
        ({"slots": True}, r"`slots` is True, but has to be a whole number"),
        ({"slots": 0}, r"`slots` is 0, but has to be from 1 to 256"),
        ({"context": 12}, r"`context` is 12, but has to be from 256"),
        ({"embeddings": 1}, r"`embeddings` is 1, but has to be true or false"),
        ({"chat_template": "x" * 70_000}, r"length of setting `chat_template` is 70000"),
        ({"pooling": "max"}, r"`pooling` is 'max'\n  Known are mean, cls, last"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_has_to_be(
    settings: dict[str, bool | int | float | str], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        check(local(**settings))


@given(
    st.dictionaries(
        st.sampled_from([*LlamaCppSettings.__dataclass_fields__, "other"]),
        st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        max_size=4,
    )
)
def test_whatever_is_given_is_either_taken_as_it_is_or_refused(
    given_settings: dict[str, bool | int | float | str],
) -> None:
    try:
        settings = read_settings(LlamaCppSettings, given_settings, ENGINE)
    except InvalidInput:
        return
    for name, value in given_settings.items():
        assert getattr(settings, name) == value


def test_weights_of_another_format_are_refused() -> None:
    model = WeightsModel(format="safetensors", files=(FILE,))
    with pytest.raises(InvalidInput, match="reads gguf, but the weights are safetensors"):
        check(Release(model=model, engine=Engine(kind="llama.cpp")))


def test_a_release_whose_model_does_not_fit_its_engine_is_refused() -> None:
    model = RemoteModel(base_url=URL, model="m")
    with pytest.raises(InvalidInput, match="runs weights, but the release names a remote model"):
        check(Release(model=model, engine=Engine(kind="llama.cpp")))
    with pytest.raises(InvalidInput, match="needs a remote model"):
        check(Release(model=local().model, engine=Engine(kind="remote")))


def test_a_launch_without_weight_files_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no weight file"):
        launch(local(), [])


def test_a_remote_launch_names_the_url_and_where_the_key_is_never_the_key() -> None:
    made = launch(remote(URL + "/", api_key_env="PROVIDER_KEY"), [])
    assert (made.base_url, made.argv, made.slots) == (URL, (), 32)
    assert (made.probe_path, made.probe_body) == ("/models", None)
    assert (made.api_key_env, made.api_key_file) == ("PROVIDER_KEY", None)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (remote("models.example/v1"), "is not a base URL"),
        (remote("ftp://models.example"), "is not a base URL"),
        (remote("http://models.example:99999/v1"), "is not a base URL"),
        (remote("https://key@models.example/v1"), "more than a path"),
        (remote(URL + "?key=1"), "more than a path"),
        (remote(URL, api_key_env="A", api_key_file="b"), "both api_key_env and api_key_file"),
        (remote("http://models.example/v1", api_key_env="A"), "unencrypted"),
    ],
)
def test_a_remote_url_that_cannot_or_should_not_be_used_is_refused(
    release: Release, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        check(release)


def test_a_key_may_go_unencrypted_to_this_machine() -> None:
    check(remote("http://127.0.0.1:8000/v1", api_key_env="A"))
