"""Whatever is wrong with the bytes, there is one kind of error."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.decoding import decode_json
from fairlead.wire.record import ProgressRecord, decode_record, encode_record
from fairlead.wire.snapshot import Snapshot, decode_snapshot, encode_snapshot


@pytest.mark.parametrize("data", [b'"\xff"', b"[" * 100_000, b"{", b"", b'{"\xff": 1}'])
def test_damaged_json_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, dict[str, int])


@given(st.integers(min_value=0), st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_else(position: int, value: int) -> None:
    snapshot = bytearray(encode_snapshot(Snapshot(3, "ab")))
    snapshot[position % len(snapshot)] = value
    record = bytearray(encode_record(ProgressRecord(1.0, 2.0)))
    record[position % len(record)] = value
    for decode, data in ((decode_snapshot, snapshot), (decode_record, record)):
        try:
            decode(bytes(data))
        except msgspec.DecodeError:
            continue


_TOGETHER = """
import sys, threading, types
from fairlead.domain.decoding import decode_json

sys.setswitchinterval(1e-6)
for number in range(60):
    lines = ["from __future__ import annotations", "import msgspec"]
    for k in range(12):
        lines += [f"class I{k}(msgspec.Struct):", *(f"    f{j}: int = 0" for j in range(8))]
        lines += [f"    before: I{k - 1} | None = None"] if k else []
    lines += ["class O(msgspec.Struct):", *(f"    g{k}: list[I{k}] = []" for k in range(12))]
    module = types.ModuleType(f"m{number}")
    sys.modules[module.__name__] = module
    exec("\\n".join(lines), module.__dict__)
    gate = threading.Barrier(6)

    def met():
        gate.wait()
        decode_json(b'{"g11": [{}]}', module.O)

    threads = [threading.Thread(target=met) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_may_meet_a_type_for_the_first_time_together() -> None:
    # With msgspec alone this ends by a segmentation fault nearly each time.
    done = subprocess.run([sys.executable, "-c", _TOGETHER], check=False, timeout=100)
    assert done.returncode == 0
