"""A release's digest names all of it and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.outbound import Outbound
from fairlead.domain.release import (
    Blob,
    Engine,
    Prompt,
    Release,
    RemoteModel,
    WeightsModel,
    short,
)

MODEL = WeightsModel("gguf", (Blob("sha256:" + "a" * 64, 10, "m.gguf"),))
BASE = Release(MODEL, Engine("llama.cpp", {"slots": 4, "context": 512}), sampling={"top_p": 0.5})


def test_the_order_in_which_settings_were_written_does_not_matter() -> None:
    other = Release(
        MODEL, Engine("llama.cpp", {"context": 512, "slots": 4}), sampling={"top_p": 0.5}
    )
    assert other.canonical() == BASE.canonical()


def test_each_part_changes_the_canonical_form() -> None:
    changed = [
        msgspec.structs.replace(BASE, prompt=Prompt(system="be kind")),
        msgspec.structs.replace(BASE, sampling={"top_p": 0.6}),
        msgspec.structs.replace(BASE, engine=Engine("llama.cpp", {"slots": 8})),
    ]
    assert len({release.canonical() for release in [BASE, *changed]}) == 4


def test_a_provider_reached_the_plain_way_has_the_canonical_form_of_before() -> None:
    plain = Release(RemoteModel("https://h/v1", "m"), Engine("remote"))
    assert plain.canonical() == (
        b'{"engine":{"kind":"remote","settings":{}},"model":{"api_key_env":null,"api_key_file":null,'
        b'"base_url":"https://h/v1","model":"m","type":"remote"},"prompt":{"system":null,'
        b'"user":null},"sampling":{},"schema":1}'
    )
    way = Outbound(proxy="http://proxy.example:3128")
    other = msgspec.structs.replace(plain, model=RemoteModel("https://h/v1", "m", outbound=way))
    assert Release.from_canonical(other.canonical()) == other
    assert other.engine_digest != plain.engine_digest


def test_releases_that_differ_in_prompt_or_sampling_share_the_engine_digest() -> None:
    other = msgspec.structs.replace(BASE, prompt=Prompt(user="Q: {input}"), sampling={})
    assert other.engine_digest == BASE.engine_digest
    slower = msgspec.structs.replace(BASE, engine=Engine("llama.cpp", {"slots": 1}))
    assert slower.engine_digest != BASE.engine_digest


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    )
)
def test_the_canonical_form_reads_back_as_the_same_release(settings: dict[str, object]) -> None:
    kept = {k: v for k, v in settings.items() if not isinstance(v, int) or abs(v) < 2**63}
    release = Release(MODEL, Engine("llama.cpp", kept))  # type: ignore[arg-type]
    assert Release.from_canonical(release.canonical()).canonical() == release.canonical()


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Release.from_canonical(b'{"model": {"type": "weights"}, "surprise": 1}')


def test_short_is_for_people() -> None:
    assert short("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
