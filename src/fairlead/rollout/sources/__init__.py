"""Where the values of a request come from: one small file for each kind of source.

A source gives the value of one request by one metric. To add one: a file beside these with its
`Source`, and a line in `SOURCES`. What clients or a judge model say of an answer comes as feedback
and needs no source of its own.
"""

from __future__ import annotations

from fairlead.rollout.sources import answers, records
from fairlead.rollout.sources.source import VALUE_MAX, Source

SOURCES: dict[str, Source] = {
    source.name: source for source in (*records.SOURCES, *answers.SOURCES)
}

__all__ = ["SOURCES", "VALUE_MAX", "Source"]
