"""What several rooms know of a judge model: the names of its feedback, and what it goes by."""

from __future__ import annotations

JUDGED = "judge"
"""Name of the feedback by which a judge model's score of a sampled answer is kept."""

UNJUDGED = "judge_none"
"""Name of the feedback that says: in the sample, but the judge model has given no verdict."""

RUBRIC = (
    "A good answer does what the user asks, is correct, is complete, makes nothing up, and keeps "
    "to the instructions in the conversation. Length and style alone make no answer better."
)
RUBRIC_CHARS_MAX = 20_000
