"""What is said of a defect of ours: its kind and its place, and none of its words.

The words of an exception may repeat what was worked on, such as a prompt. So neither an alert nor a
log has them: they have where it was raised, and through what.
"""

from __future__ import annotations

import traceback
from pathlib import Path

FRAMES_MAX = 12
_SOURCE = f"{Path(__file__).parents[2]}/"


def defect(error: BaseException) -> str:
    """`a defect: KeyError at fairlead/monitoring/course.py:41`: the last place in our own code."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [one for one in frames if one[0].f_code.co_filename.startswith(_SOURCE)]
    places = [_place(frame.f_code.co_filename, line) for frame, line in (own or frames)[-1:]]
    return " at ".join([f"a defect: {type(error).__name__}", *places])


def trail(error: BaseException) -> str:
    """The same for a log: through what it came, the last call first, and what it came of."""
    frames = list(traceback.walk_tb(error.__traceback__))[-FRAMES_MAX:]
    calls = [
        f"{_place(frame.f_code.co_filename, line)} in {frame.f_code.co_name}"
        for frame, line in reversed(frames)
    ]
    said = " < ".join([type(error).__name__, *calls])
    before = error.__cause__ or error.__context__
    return said if before is None else f"{said}; after {type(before).__name__}"


def _place(file: str, line: int) -> str:
    return f"{file.removeprefix(_SOURCE)}:{line}"
