"""What the observer says of itself: a small file that it writes anew every second or so.

The observer answers nobody; control reads the file and shows it among its metrics.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_json

STANDING_BYTES_MAX = 64 * 1024


class ObserverStanding(msgspec.Struct, frozen=True):
    """How far the observer is. Counts are those of this life of it.

    Attributes:
        at: Unix time in seconds at which this was written.
        started_at: Unix time in seconds at which this life began.
        requests, feedback, samples: Records taken into the store.
        damaged: Frames of the spool that were lost to damage.
        failures: Times that the store or the spool refused, and it was tried again.
        spools: Folders of workers in the spool.
        spool_bytes: What all segments in the spool have together.
        archives: Whether the telemetry store is filled.
        archived_until: Unix time in seconds; what began before it is in the telemetry store. 0
            where that is not known.
        traces: Requests by what became of their spans: sent, dropped, failed; empty for none.
    """

    at: float
    started_at: float
    requests: int = 0
    feedback: int = 0
    samples: int = 0
    damaged: int = 0
    failures: int = 0
    spools: int = 0
    spool_bytes: int = 0
    archives: bool = False
    archived_until: float = 0.0
    traces: dict[str, int] = {}


def encode_standing(standing: ObserverStanding) -> bytes:
    """The file's content."""
    return msgspec.json.encode(standing)


def decode_standing(data: bytes) -> ObserverStanding:
    """Raises `msgspec.DecodeError` (or its `ValidationError`) when it is none."""
    return decode_json(data, ObserverStanding)
