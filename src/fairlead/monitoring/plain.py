"""Words from outside on one line, cut, and so that nothing in them is live where they are shown."""

from __future__ import annotations

import re

BRIEF = 100
_GAP = "\u200b"
"""No width: it is not seen, and parts what would be a name or an address."""
_LIVE = re.compile(r"@|://|\bwww\.|#(?=\d)", re.IGNORECASE)
_ENDS = (": ", "; ")


def one_line(words: str) -> str:
    """Printable characters only, and single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


def inert(words: str) -> str:
    """Nobody is called by it, and nothing is linked or loaded: `@all`, `http://...`, `#12`."""
    return _LIVE.sub(lambda found: _parted(found[0]), words)


def _parted(live: str) -> str:
    return f":{_GAP}//" if live == "://" else f"{live}{_GAP}"


def brief(words: str, most: int = BRIEF) -> str:
    """A summary as a title: up to the last colon or semicolon that there is room for.

    Where that leaves less than a third it is cut between two words.
    """
    if len(words) <= most:
        return words
    end = max(words.rfind(mark, 0, most) for mark in _ENDS)
    if end >= most // 3:
        return words[:end]
    room = words[: most - 1]
    return f"{room.rpartition(' ')[0] or room}…"
