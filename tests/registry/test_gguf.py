"""A GGUF file is accepted when its header is sound and its data complete, else refused in words."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import ModelFileRefused
from fairlead.registry.model_files import ModelFacts
from fairlead.registry.model_files.gguf import STRINGS_MAX, TENSORS_MAX, check_gguf
from registry.model_writer import (
    ARRAY,
    ENTRIES,
    STRING,
    TYPE_F32,
    U8,
    Tensor,
    array_entry,
    entry,
    gguf,
    number_entry,
    string_entry,
    text,
)

EXAMPLES = Path(__file__).parents[2] / "examples" / "banking" / "models"


def check(data: bytes) -> ModelFacts:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return check_gguf(file.fileno(), len(data), "m.gguf")


def verdict(data: bytes) -> str:
    """Let every exception through but the one that refuses."""
    try:
        return f"accepted with {check(data).tensors} tensors"
    except ModelFileRefused as error:
        return error.message


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFileRefused) as caught:
        check(data)
    return caught.value.message


def test_a_sound_file_says_what_is_in_it() -> None:
    facts = check(gguf())
    assert facts == ModelFacts(
        format="gguf",
        tensors=2,
        parameters=96,
        quantisation="Q8_0",
        architecture="llama",
        name="tiny",
        context_length=128,
    )


@pytest.mark.parametrize(
    "data",
    [
        gguf(version=2),
        gguf(pad_last=False),
        gguf(alignment=64, entries=(*ENTRIES, number_entry("general.alignment", 64))),
        gguf(entries=(*ENTRIES, array_entry("x.many", U8, 600_000, bytes(600_000)))),
        gguf(entries=(*ENTRIES, string_entry("x.long", "y" * 600_000))),
        gguf(entries=(*ENTRIES, array_entry("x.one", STRING, 1, text("y" * 600_000)))),
    ],
    ids=["version 2", "no padding", "alignment 64", "long array", "long text", "long item"],
)
def test_what_the_format_allows_is_accepted(data: bytes) -> None:
    assert check(data).tensors == 2


def test_texts_across_the_reading_window_are_passed_over_exactly() -> None:
    for length in (7, 8, 9, 63, 1000, 300_000):
        count = max(2, 700_000 // (length + 8))
        tokens = array_entry("t.tokens", STRING, count, text("x" * length) * count)
        after = string_entry("general.license", "apache")
        assert check(gguf(entries=(tokens, *ENTRIES, after))).name == "tiny"


def _one(**changes: object) -> bytes:
    return gguf(tensors=[Tensor(**changes)])  # type: ignore[arg-type]


def _with(*entries: bytes) -> bytes:
    return gguf(entries=(*ENTRIES, *entries))


REFUSED = {
    "no magic": (gguf(magic=b"GGML"), "is not a GGUF file"),
    "version 1": (gguf(version=1), "has GGUF version 1"),
    "version 4": (gguf(version=4), "has GGUF version 4"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "too many tensors": (gguf(counts=(2**40, 5)), "at most 100,000 are accepted"),
    "more tensors than bytes": (gguf(counts=(90_000, 5)), "more than fit into the file"),
    "too many entries": (gguf(counts=(2, 2**63)), "metadata entries"),
    "key twice": (_with(number_entry("general.name", 1)), "'general.name' twice"),
    "key with blanks": (_with(number_entry("a b", 1)), "metadata key 'a b'"),
    "empty key": (_with(number_entry("", 1)), "metadata key ''"),
    "long key": (_with(number_entry("k" * 257, 1)), "metadata key of 257 bytes"),
    "unknown value type": (_with(entry("x", 13, b"")), "unknown type 13"),
    "array of arrays": (_with(array_entry("x", ARRAY, 1, b"")), "an array of arrays"),
    "array of unknowns": (_with(array_entry("x", 77, 1, b"")), "the unknown type 77"),
    "array of 2^40": (_with(array_entry("x", U8, 2**40, b"")), "claims 1,099,511,627,776 items"),
    "texts, 2^40 of them": (_with(array_entry("x", STRING, 2**40, b"")), "more than fit"),
    "text of 2^60": (_with(entry("x", STRING, struct.pack("<Q", 2**60))), "more than the file"),
    "item of 2^60": (
        _with(array_entry("x", STRING, 1, struct.pack("<Q", 2**60))),
        "truncated",
    ),
    "alignment 0": (_with(number_entry("general.alignment", 0)), "alignment 0"),
    "alignment 24": (_with(number_entry("general.alignment", 24)), "alignment 24"),
    "alignment text": (_with(string_entry("general.alignment", "32")), "alignment '32'"),
    "path as name": (_one(name="../../x"), "tensor name '../../x'"),
    "two dots": (_one(name="a..b"), "tensor name 'a..b'"),
    "control characters": (_one(name=b"a\x1b[2J"), r"'a\x1b[2J'"),
    "long name": (_one(name="n" * 64), "tensor name of 64 bytes"),
    "tensor twice": (gguf(tensors=[Tensor(), Tensor()]), "'blk.0.weight' twice"),
    "no dimensions": (_one(shape=()), "has 0 dimensions"),
    "5 dimensions": (_one(shape=(32, 1, 1, 1, 1)), "has 5 dimensions"),
    "empty tensor": (_one(shape=(32, 0)), "has shape [32, 0]"),
    "half a block": (_one(shape=(33,)), "of Q8_0 has shape [33]"),
    "elements overflow": (gguf(tensors=[Tensor(kind=99)]), "unknown type 99"),
    "removed type": (_one(kind=4), "unknown type 4"),
    "offset into the header": (_one(offset=2**64 - 32), "is said to be at offset"),
    "gap": (gguf(tensors=[Tensor(), Tensor("b", offset=128)]), "behind the tensor before it is 96"),
    "overlap": (gguf(tensors=[Tensor(), Tensor("b", offset=0)]), "behind the tensor before it"),
    "bytes behind": (gguf(behind=b"PK\x03\x04" + bytes(60)), "has 64 bytes behind its last tensor"),
    "no architecture": (gguf(entries=ENTRIES[1:]), "does not say its architecture"),
    "no tensors": (gguf(tensors=[]), "holds no tensors"),
    "nothing": (b"", "truncated"),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unsound_file_is_refused_with_the_reason(data: bytes, why: str) -> None:
    message = refusal(data)
    assert message.startswith("m.gguf: ")
    assert why in message


def test_a_tensor_larger_than_any_file_is_refused() -> None:
    info = text("a") + struct.pack("<IQQQQIQ", 4, 2**62, 2**62, 2**62, 2**62, TYPE_F32, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(ENTRIES)) + b"".join(ENTRIES) + info
    assert "has shape" in refusal(head + bytes(64))


def test_a_truncated_file_is_refused_with_the_number_of_missing_bytes() -> None:
    whole = gguf(pad_last=False)
    assert "truncated: 100 bytes are missing" in refusal(whole[:-100])


def test_no_beginning_of_a_file_is_taken_for_the_whole() -> None:
    whole = gguf(pad_last=False)
    for length in range(len(whole)):
        refusal(whole[:length])


@settings(max_examples=250, deadline=1000)
@given(st.data())
def test_changed_bytes_are_accepted_or_refused_and_nothing_else(data: st.DataObject) -> None:
    """Any change to a sound file ends in facts or `ModelFileRefused`, within a second."""
    content = bytearray(gguf())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.binary(min_size=1, max_size=9))
        if data.draw(st.booleans()):
            content[at : at + len(change)] = change
        else:
            del content[at : at + len(change)]
    assert verdict(bytes(content)).startswith(("accepted", "m.gguf: "))


@settings(max_examples=200, deadline=1000)
@given(st.binary(max_size=400))
def test_noise_behind_a_sound_beginning_is_refused(noise: bytes) -> None:
    refusal(b"GGUF" + struct.pack("<IQQ", 3, 2, 5) + noise)


def _hostile_files() -> dict[str, bytes]:
    texts = array_entry("t", STRING, STRINGS_MAX - 2, bytes(8 * STRINGS_MAX - 16))
    infos = b"".join(
        text(f"{number:063}") + struct.pack("<IQQQQIQ", 4, 1, 1, 1, 1, TYPE_F32, 32 * number)
        for number in range(TENSORS_MAX)
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, TENSORS_MAX, len(ENTRIES)) + b"".join(ENTRIES)
    return {
        "empty texts": gguf(entries=(*ENTRIES, texts)),
        "tensors": head + infos,
        "49 bytes": b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + text("a")
        + struct.pack("<IIQ", ARRAY, U8, 2**40),
    }


def test_the_worst_file_costs_less_than_a_second() -> None:
    for name, data in _hostile_files().items():
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            began = time.process_time()
            if name == "empty texts":
                assert check_gguf(file.fileno(), len(data), name).tensors == 2
            else:
                with pytest.raises(ModelFileRefused):
                    check_gguf(file.fileno(), len(data), name)
            assert time.process_time() - began < 5.0, name


def test_a_file_of_8_mb_is_checked_quickly() -> None:
    vocabulary = array_entry("t.tokens", STRING, 50_000, text("token") * 50_000)
    data = gguf(entries=(*ENTRIES, vocabulary), tensors=[Tensor(shape=(1024, 7_000))])
    assert 7_500_000 < len(data) < 8_500_000
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        began = time.process_time()
        check_gguf(file.fileno(), len(data), "m.gguf")
        assert time.process_time() - began < 2.0


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example's models are not in this checkout")
def test_the_examples_models_are_accepted() -> None:
    found = sorted(EXAMPLES.glob("*.gguf"))
    assert found
    for path in found:
        fd = os.open(path, os.O_RDONLY)
        try:
            facts = check_gguf(fd, path.stat().st_size, path.name)
        finally:
            os.close(fd)
        assert facts.architecture == "llama"
        assert facts.parameters > 0


def test_names_are_shown_without_what_a_terminal_would_obey() -> None:
    assert "\x1b" not in refusal(_one(name=b"\x1b]0;x\x07"))
