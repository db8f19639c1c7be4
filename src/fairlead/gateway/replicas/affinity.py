"""Which replica has a prompt's beginning in its cache, and whether it may be chosen for that. Pure.

A prompt is known by the hashes of its beginnings: one for each further block of the client's JSON,
blocks that are short at first and then a fifth of what lies before them. What was sent where is
remembered for each block (what has not been used for long is forgotten), so that the replica with
the longest common beginning is found, be that a conversation so far, a tenant's system prompt or a
document. A conversation stays where its last turn was. Among equals the prompt's first KiB ranks
the replicas by rendezvous hashing, so that gateway workers that know nothing of each other send
what begins alike to the same replica (benchmarks/prefix.py measures this against other rules).

Nobody is preferred into overload: a replica may have at most `BOUND` times its share of the
requests in work, as in consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam,
2018), each replica's share being that of its slots. The same bound holds for the conversations
that have lately been begun on it: a system prompt that all of them share is soon cached everywhere,
and would otherwise draw all of them to one replica, whose cache they do not fit into.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar
from zlib import crc32

import msgspec

from fairlead.gateway.replicas.routing import Candidate, Picker, least_loaded

BLOCK_BYTES = 256
PROMPT_BYTES_MAX = 64 * 1024
"""So much of a prompt is looked at; what differs only later is the same."""
START_BLOCKS = 4
"""Blocks of the part of a prompt that ranks the replicas."""
REMEMBERED_MAX = 50_000
"""Openings, and as many blocks, that one service remembers in one worker, the latest half of them
at least: some 11 MB, and 16 where each is on many replicas."""
HOLDERS_MAX = 8
"""Replicas remembered for one beginning, the latest ones."""
REPLICAS_MAX = 1_024
"""Names of replicas that are kept once for all that they have alone."""
RECENT_MAX = 128
"""Conversations begun lately, whose distribution is kept even."""
BOUND = 1.25


def _ends() -> tuple[int, ...]:
    """Where the blocks of a prompt end."""
    ends = [BLOCK_BYTES]
    while ends[-1] < PROMPT_BYTES_MAX:
        ends.append(ends[-1] + max(BLOCK_BYTES, ends[-1] // 5))
    return tuple(ends)


_ENDS = _ends()
_WORD, _MIX_ONE, _MIX_TWO = 2**64 - 1, 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


class Prefix(msgspec.Struct, frozen=True):
    """The beginnings of one prompt.

    Attributes:
        opening: Hash of all up to the first user message: what stays the same in a conversation.
        start: Hash of what ranks the replicas: the first KiB, or the opening of a shorter prompt.
        blocks: Hash of each beginning of whole blocks, the shortest first.
    """

    opening: int
    start: int
    blocks: tuple[int, ...]


class _Message(msgspec.Struct):
    role: str = ""


class _Asked(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None
    prompt: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


_asked = msgspec.json.Decoder(_Asked)
_message = msgspec.json.Decoder(_Message)


def prefix_of(body: bytes) -> Prefix | None:
    """The beginnings of a request's prompt; None where it has none, as with embeddings."""
    try:
        asked = _asked.decode(body)
        parts = asked.messages
        if parts is None:
            prompt = bytes(asked.prompt)
            return _prefix(crc32(prompt), _blocks(prompt, 0)) if prompt else None
        seed = crc32(asked.tools)
        opening = seed
        for part in parts:
            opening = crc32(part, opening)
            if _message.decode(part).role == "user":
                break
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _prefix(opening, _blocks(b"".join(parts), seed))


def _prefix(opening: int, blocks: tuple[int, ...]) -> Prefix:
    start = blocks[min(START_BLOCKS, len(blocks)) - 1] if blocks else opening
    return Prefix(opening, start, blocks)


def _blocks(text: bytes, seed: int) -> tuple[int, ...]:
    found = []
    begin, size = 0, len(text)
    for end in _ENDS:
        if end > size:
            break
        seed = crc32(text[begin:end], seed)
        found.append(seed)
        begin = end
    return tuple(found)


class Cacher(Candidate, Protocol):
    """A candidate that keeps what it has read."""

    @property
    def id(self) -> str:
        """What it is remembered by."""


C = TypeVar("C", bound=Cacher)


V = TypeVar("V")


class Latest(Generic[V]):
    """What was put lately, of `most` different keys at most.

    In two halves: once the newer one is full, the older one is forgotten as a whole, so the last
    half of `most` is always there. Half of the memory of an `OrderedDict`, which forgets singly.
    """

    def __init__(self, most: int) -> None:
        self._half = max(1, most // 2)
        self._newer: dict[int, V] = {}
        self._older: dict[int, V] = {}

    def get(self, key: int) -> V | None:
        """None where it is not, or no longer, known."""
        found = self._newer.get(key)
        return self._older.get(key) if found is None else found

    def put(self, key: int, value: V) -> None:
        """As the latest."""
        if len(self._newer) >= self._half and key not in self._newer:
            self._older, self._newer = self._newer, {}
        self._newer[key] = value


class PrefixBalancer:
    """What one service's replicas have been sent by this worker."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._holders: Latest[tuple[str, ...]] = Latest(remembered_max)
        self._homes: Latest[str] = Latest(remembered_max)
        self._alone: dict[str, tuple[str, ...]] = {}
        self._recent: deque[str] = deque()
        self._begun: Counter[str] = Counter()

    def pick(self, candidates: Sequence[C], prefix: Prefix, turn: int) -> C | None:
        """The candidate with the longest beginning that is within the bounds; None when all are
        full."""
        if len(candidates) < 2:
            return least_loaded(candidates, turn)
        slots = sum(c.slots for c in candidates)
        per_slot = BOUND * (sum(c.in_flight for c in candidates) + 1) / slots
        free = [c for c in candidates if c.in_flight < min(c.slots, math.ceil(per_slot * c.slots))]
        home = self._homes.get(prefix.opening)
        if home is not None:
            for candidate in free:
                if candidate.id == home:
                    return candidate
        else:
            free = self._not_crowded(free, slots) or free
        if len(free) < 2:
            return free[0] if free else least_loaded(candidates, turn)
        depths = self._depths(prefix, {c.id for c in free})
        return max(free, key=lambda c: (depths.get(c.id, 0), rank(prefix.start, c.id)))

    def note(self, replica: str, prefix: Prefix) -> None:
        """The request was sent there: it will have this in its cache."""
        if self._homes.get(prefix.opening) is None:
            self._begin(replica)
        self._homes.put(prefix.opening, replica)
        for block in prefix.blocks:
            known = self._holders.get(block)
            if known is None:
                known = self._only(replica)
            elif known[0] != replica:
                known = (replica, *(h for h in known if h != replica))[:HOLDERS_MAX]
            self._holders.put(block, known)

    def _only(self, replica: str) -> tuple[str, ...]:
        """One tuple for all that only this replica has."""
        if len(self._alone) >= REPLICAS_MAX:
            self._alone.clear()
        return self._alone.setdefault(replica, (replica,))

    def _begin(self, replica: str) -> None:
        self._recent.append(replica)
        self._begun[replica] += 1
        if len(self._recent) > RECENT_MAX:
            self._begun[self._recent.popleft()] -= 1

    def _not_crowded(self, candidates: Sequence[C], slots: int) -> list[C]:
        """Those on which not too many conversations have been begun lately."""
        per_slot = BOUND * (len(self._recent) + 1) / slots
        return [c for c in candidates if self._begun[c.id] < math.ceil(per_slot * c.slots)]

    def _depths(self, prefix: Prefix, wanted: set[str]) -> dict[str, int]:
        """How many blocks of the prompt each of these replicas has been sent already."""
        depths: dict[str, int] = {}
        holders = self._holders
        for depth in range(len(prefix.blocks), 0, -1):
            for replica in holders.get(prefix.blocks[depth - 1]) or ():
                if replica in wanted:
                    depths.setdefault(replica, depth)
            if len(depths) == len(wanted):
                break
        return depths


def rank(start: int, replica: str) -> int:
    """Rendezvous hashing: for each start another order of the replicas, all equally likely."""
    mixed = (crc32(replica.encode()) ^ start) * _MIX_ONE & _WORD
    return (mixed ^ mixed >> 29) * _MIX_TWO & _WORD


def picker(balancer: PrefixBalancer | None, prefix: Prefix | None) -> Picker[C]:
    """How one of several usable replicas is chosen."""
    if balancer is None or prefix is None:
        return least_loaded
    return lambda usable, turn: balancer.pick(usable, prefix, turn)
