"""Whether the time of a lookup says anything of the key: Welch's t-test, as in dudect.

By itself, at full size: `python tests/gateway/hostile/timing.py --samples 1000000`; it says whether
the gateway that it imports is compiled.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gateway_rig import key_entry  # noqa: E402

from fairlead.gateway.front import auth  # noqa: E402
from fairlead.gateway.front.auth import KeyRing  # noqa: E402

T_MAX = 4.5
KEY_BYTES = 64
_LETTERS = "0123456789abcdef"
_KEPT_SHARE = 0.9
_AT_ONCE = 5_000

Find = Callable[[bytes], object]


def a_key(chance: random.Random, prefix: str = "fl-") -> str:
    """A key of one length, with this beginning."""
    digits = KEY_BYTES - len(prefix)
    return prefix + f"{chance.getrandbits(4 * digits):0{digits}x}"


class Keys:
    """A ring with keys in it, and kinds of keys that are all refused.

    A small set of keys differs from another by where its digests fall in the table of one ring, so
    there is a new ring (`renew`) for each part of a measurement.

    Args:
        stay: The ring stays the same all along, as in a worker between two snapshots.
    """

    def __init__(self, seed: int, count: int = 200, *, stay: bool = False) -> None:
        chance = random.Random(seed)
        self.chance = chance
        self._count = count
        self._stays = stay
        self._unrelated = [a_key(chance) for _ in range(count * (len(_LETTERS) - 1))]
        self._change()
        self.kinds: dict[str, Callable[[], str]] = {
            "unknown": lambda: a_key(chance),
            "all but the last byte": self._nearly,
            "the first half": lambda: a_key(chance, chance.choice(self.real)[: KEY_BYTES // 2]),
            "no longer accepted": lambda: chance.choice(self._gone),
            "as few, unrelated": lambda: chance.choice(self._unrelated),
        }

    def renew(self) -> None:
        """Have others in the ring from now on, unless it stays."""
        if not self._stays:
            self._change()

    def _change(self) -> None:
        # A key that was taken away or has expired is not in a snapshot any longer.
        self._gone = [a_key(self.chance) for _ in range(_AT_ONCE)]
        before = KeyRing(key_entry(key, key) for key in self._gone)
        assert all(before.find(b"Bearer " + key.encode()) for key in self._gone)
        self.real = [a_key(self.chance) for _ in range(self._count)]
        self.ring = KeyRing(key_entry(key, key) for key in self.real)

    def header(self, kind: str) -> bytes:
        """An `Authorization` header with a key of this kind."""
        return b"Bearer " + self.kinds[kind]().encode()

    def _nearly(self) -> str:
        key = self.chance.choice(self.real)
        return key[:-1] + self.chance.choice([c for c in _LETTERS if c != key[-1]])


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Welch's t."""
    (mean_1, var_1), (mean_2, var_2) = _moments(one), _moments(other)
    return (mean_1 - mean_2) / math.sqrt(var_1 / len(one) + var_2 / len(other) or 1.0)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def cropped(times: tuple[list[int], list[int]]) -> float:
    """t without the slowest tenth of all: these are interruptions by others, not the lookup."""
    limit = sorted(times[0] + times[1])[int((len(times[0]) + len(times[1])) * _KEPT_SHARE)]
    return welch(*([t for t in part if t <= limit] for part in times))


def t_of(find_of: Callable[[Keys], Find], keys: Keys, kind: str, samples: int) -> float:
    """t of so many lookups, each of this kind or of an unknown key, as chance has it.

    Args:
        find_of: Makes the lookup in the keys that are in the ring now.

    Keys are made some thousand at a time, so that how one is made is no part of what is measured.
    """
    kinds = (kind, "unknown")
    took: tuple[list[int], list[int]] = ([], [])
    clock = time.perf_counter_ns
    for start in range(0, samples, _AT_ONCE):
        keys.renew()
        find = find_of(keys)
        drawn = [keys.chance.getrandbits(1) for _ in range(min(_AT_ONCE, samples - start))]
        headers = [keys.header(kinds[which]) for which in drawn]
        # While it is measured, nothing depends on which kind a key is of.
        spans = [0] * len(headers)
        for number, given in enumerate(headers):
            began = clock()
            find(given)
            spans[number] = clock() - began
        for which, span in zip(drawn, spans, strict=True):
            took[which].append(span)
    return cropped(took)


def leaky(keys: Sequence[str]) -> Find:
    """What `KeyRing` must not be: it compares with each key, letter by letter."""
    known = [b"Bearer " + key.encode() for key in keys]

    def find(given: bytes) -> object:
        for key in known:
            for a, b in zip(key, given, strict=False):
                if a != b:
                    break
            else:
                return key
        return None

    return find


async def t_over_sockets(port: int, keys: Keys, kind: str, samples: int) -> float:
    """t of whole answers: 401 on a new connection each, from the request to its first byte."""
    took: tuple[list[int], list[int]] = ([], [])
    for _ in range(samples):
        which = keys.chance.getrandbits(1)
        given = keys.header((kind, "unknown")[which])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        wire = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: " + given + b"\r\n\r\n"
        began = time.perf_counter_ns()
        writer.write(wire)
        line = await reader.readline()
        ended = time.perf_counter_ns()
        took[which].append(ended - began)
        assert line.startswith(b"HTTP/1.1 401"), line
        writer.close()
    return cropped(took)


def main() -> None:
    """Print t for each kind beside keys that are all wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--same-keys", action="store_true", help="the ring stays the same")
    given = parser.parse_args()
    keys = Keys(given.seed, stay=given.same_keys)
    sys.stdout.write(f"{code()}, {given.samples:,} lookups of each kind\n")
    for kind in keys.kinds:
        t = t_of(lambda known: known.ring.find, keys, kind, given.samples)
        sys.stdout.write(f"{kind}: t = {t:+.2f}\n")
    few = Keys(given.seed, 4)
    t = t_of(lambda known: leaky(known.real), few, "the first half", 20_000)
    sys.stdout.write(f"a lookup that compares letters, the first half: t = {t:+.2f} of 20,000\n")


def code() -> str:
    """Whether the gateway that is measured is compiled."""
    return "as Python" if str(auth.__file__).endswith(".py") else "compiled"


if __name__ == "__main__":
    main()
