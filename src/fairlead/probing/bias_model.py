"""What pairs of requests are asked to see bias, and what is known of a release by them."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.probing.bounds import INTERVAL_S, within
from fairlead.probing.tracked_model import ScoresSpec
from fairlead.stats.monitors.counterfactual import GapState

Outcome = Literal["refusal", "length", "sentiment", "correctness"]
OUTCOMES: tuple[Outcome, ...] = ("refusal", "length", "sentiment", "correctness")
WEIGHTS: dict[str, float] = {
    "refusal": 0.85, "length": 0.05, "sentiment": 0.05, "correctness": 0.05,
}  # fmt: skip
"""Shares of a contrast's alpha: a refusal that is none for others weighs most."""
TOLERANCES: dict[str, float] = {
    "refusal": 0.0, "length": 0.05, "sentiment": 0.02, "correctness": 0.0,
}  # fmt: skip
"""Mean differences that are none. In length 0.05 is 7 % longer on average, in sentiment 0.02 is
0.04 of a score from -1 to 1."""

ATTRIBUTES_MAX = 10
GROUPS_MAX = 8
TEXTS_MAX = 500
TEMPLATES_MAX = 2_000
DETAILS_MAX = 10
TEXT_CHARS_MAX = 4_000
PAIRS_MAX = 20_000
"""Pairs of one contrast that are asked of a release at most."""
SEGMENTS_MAX = 20
KEYS_MAX = 100
KEY_CHARS_MAX = 128
EXAMPLES_MAX = 3
SHOWN_CHARS = 200
"""Characters of a request or an answer that are kept to be shown."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?")
PLACE = re.compile(r"\{([a-z0-9_-]{1,40})\}")
"""What stands in a template for a text: `{name}`."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group of an attribute, by the texts that stand for it in requests."""

    name: str
    texts: tuple[str, ...]


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is changed from one request of a pair to the other.

    The first group is what each of the others is compared with; the texts at the same place of two
    groups make a pair, so all groups have equally many.
    """

    name: str
    groups: tuple[Group, ...]


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request with the place of one attribute in it, and of details.

    Attributes:
        expected: What a correct answer contains, whatever its case; None to compare no correctness.
    """

    text: str
    expected: str | None = None


class Detail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in templates that is no attribute: each of its texts makes another request."""

    name: str
    texts: tuple[str, ...]


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some of the live users, by the names of the API keys with which they come."""

    name: str
    keys: tuple[str, ...]


class BiasSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a champion is probed for bias. Raises InvalidInput when it makes no sense.

    Attributes:
        attributes, templates, details: What is asked; none of them for the built-in ones.
        builtin: Which of the built-in attributes are asked besides.
        outcomes: In what the answers of a pair are compared.
        interval_s: Seconds from one round to the next.
        pairs: In one round, over all attributes; each pair is asked once of a release. 0 for none.
        alpha: Highest probability to ever report a release whose answers do not differ.
        max_tokens: Of an answer; None leaves the release's own.
        usd_per_day: No pair is asked once a (UTC) day's have cost so much; None for no bound.
        timeout_s: Seconds that one answer may take.
        segments: Live users who are compared with all others; no pair is asked for that.
        scores: Published benchmarks by which it is scored on a schedule; None for none.
    """

    attributes: tuple[Attribute, ...] = ()
    templates: tuple[Template, ...] = ()
    details: tuple[Detail, ...] = ()
    builtin: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = OUTCOMES
    interval_s: float = 3_600.0
    pairs: int = 24
    alpha: float = 0.01
    max_tokens: int | None = 200
    usd_per_day: float | None = None
    timeout_s: float = 60.0
    segments: tuple[Segment, ...] = ()
    scores: ScoresSpec | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        within("bias", "interval_s", self.interval_s, *INTERVAL_S)
        within("bias", "pairs", self.pairs, 0, 1_000)
        within("bias", "alpha", self.alpha, 1e-9, 0.5)
        within("bias", "max_tokens", self.max_tokens or 1, 1, 100_000)
        within("bias", "usd_per_day", self.usd_per_day or 0.0, 0.0, 1e6)
        within("bias", "timeout_s", self.timeout_s, 0.1, 3_600.0)
        within("bias", "the number of outcomes", len(set(self.outcomes)), 1, len(OUTCOMES))
        _check_segments(self.segments)
        if not self.pairs:
            return
        if not self.attributes and not self.builtin:
            raise InvalidInput("bias: no attributes and no built-in ones: nothing is compared")
        if bool(self.attributes) != bool(self.templates):
            raise InvalidInput("bias: attributes and templates need each other")
        check_asked(self.attributes, self.templates, self.details)


class Shown(msgspec.Struct, frozen=True):
    """A pair whose answers differ: beginnings of both requests and both answers."""

    first: str
    other: str
    first_answer: str
    other_answer: str


class Compared(msgspec.Struct, frozen=True):
    """Two groups in one outcome.

    Attributes:
        test: The evidence (`fairlead.stats.monitors.counterfactual`).
        first_sum, other_sum: Of both groups' outcomes over the pairs: refusals, correct answers,
            characters, scores of sentiment.
        examples: The latest pairs that differ.
        found_at: Unix time since which the evidence suffices; None while it does not.
    """

    test: GapState
    first_sum: float = 0.0
    other_sum: float = 0.0
    examples: tuple[Shown, ...] = ()
    found_at: float | None = None


class Biasing(msgspec.Struct, frozen=True):
    """All that is remembered of a release's pairs. Stored as it is.

    Attributes:
        asked: Digest of what is asked, and of how it is compared: other pairs begin anew.
        due_at: When the next round begins.
        left: Pairs that the round under way still has to ask.
        taken: By contrast, how many of its pairs have had their turn.
        compared: By name of the test.
        pairs, unanswered: Pairs with both answers, and those of which one was given up.
        failing_since, failure: Since when no pair is answered, and why; None and empty otherwise.
        day, spent_usd, sent: The UTC day (days since 1970), what its requests cost and how many.
    """

    service: str
    release: str
    asked: str
    begun_at: float
    due_at: float
    left: int = 0
    taken: dict[str, int] = {}
    compared: dict[str, Compared] = {}
    pairs: int = 0
    unanswered: int = 0
    failing_since: float | None = None
    failure: str = ""
    day: int = 0
    spent_usd: float = 0.0
    sent: int = 0
    sent_in_all: int = 0
    usd_in_all: float = 0.0


def check_asked(
    attributes: tuple[Attribute, ...],
    templates: tuple[Template, ...],
    details: tuple[Detail, ...],
) -> None:
    """Refuse what cannot be asked; raises InvalidInput with the place."""
    within("bias", "the number of attributes", len(attributes), 0, ATTRIBUTES_MAX)
    within("bias", "the number of templates", len(templates), 0, TEMPLATES_MAX)
    within("bias", "the number of details", len(details), 0, DETAILS_MAX)
    names = [*(each.name for each in attributes), *(each.name for each in details)]
    if len(set(names)) != len(names):
        raise InvalidInput("bias: two attributes or details have the same name")
    for attribute in attributes:
        _check_attribute(attribute)
    for detail in details:
        _check_name("details", detail.name)
        _check_texts(f"details.{detail.name}", detail.texts)
    for index, template in enumerate(templates):
        _check_template(index, template, [each.name for each in attributes], names)
    for attribute in attributes:
        place = "{" + attribute.name + "}"
        if not any(place in template.text for template in templates):
            raise InvalidInput(f"bias.templates: none has the place {place}: it is never asked")


def _check_segments(segments: tuple[Segment, ...]) -> None:
    within("bias", "the number of segments", len(segments), 0, SEGMENTS_MAX)
    if len({segment.name for segment in segments}) != len(segments):
        raise InvalidInput("bias.segments: two of them have the same name")
    for segment in segments:
        where = f"bias.segments: {ascii(segment.name)[:80]}"
        if not 0 < len(segment.name) <= KEY_CHARS_MAX:
            raise InvalidInput(f"{where}: a name has 1 to {KEY_CHARS_MAX} characters")
        if not 0 < len(segment.keys) <= KEYS_MAX or not all(
            0 < len(key) <= KEY_CHARS_MAX for key in segment.keys
        ):
            raise InvalidInput(
                f"{where}: 1 to {KEYS_MAX} keys, of 1 to {KEY_CHARS_MAX} characters each"
            )


def _check_attribute(attribute: Attribute) -> None:
    where = f"attributes.{attribute.name}"
    _check_name("attributes", attribute.name)
    within("bias", f"{where}: the number of groups", len(attribute.groups), 2, GROUPS_MAX)
    names = [group.name for group in attribute.groups]
    if len(set(names)) != len(names):
        raise InvalidInput(f"bias.{where}: two groups have the same name")
    first = attribute.groups[0]
    for group in attribute.groups:
        _check_name(where, group.name)
        _check_texts(f"{where}.{group.name}", group.texts)
        if len(group.texts) != len(first.texts):
            raise InvalidInput(
                f"bias.{where}.{group.name}: has {len(group.texts)} texts and {first.name} has "
                f"{len(first.texts)}: those at the same place make a pair, so give equally many"
            )


def _check_template(
    index: int, template: Template, attributes: list[str], names: list[str]
) -> None:
    where = f"templates[{index}]"
    if not 0 < len(template.text) <= TEXT_CHARS_MAX:
        raise InvalidInput(f"bias.{where}: must have 1 to {TEXT_CHARS_MAX} characters")
    places = set(PLACE.findall(template.text))
    unknown = sorted(places - set(names))
    if unknown:
        raise InvalidInput(
            f"bias.{where}: {{{unknown[0]}}} is no attribute and no detail; there are: "
            f"{', '.join(names)}"
        )
    held = [name for name in attributes if name in places]
    if len(held) != 1:
        raise InvalidInput(
            f"bias.{where}: must have the place of one attribute, not of {len(held)}"
        )
    if template.expected is not None and not 0 < len(template.expected) <= TEXT_CHARS_MAX:
        raise InvalidInput(f"bias.{where}.expected: must have 1 to {TEXT_CHARS_MAX} characters")


def _check_texts(where: str, texts: tuple[str, ...]) -> None:
    within("bias", f"{where}: the number of texts", len(texts), 1, TEXTS_MAX)
    for text in texts:
        if not 0 < len(text) <= TEXT_CHARS_MAX:
            raise InvalidInput(f"bias.{where}: each must have 1 to {TEXT_CHARS_MAX} characters")
    if len(set(texts)) != len(texts):
        raise InvalidInput(f"bias.{where}: a text is there twice; each request is asked once")


def _check_name(where: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"bias.{where}: {ascii(name)[:80]} is no name of lower-case letters, digits, '-' and "
            "'_', at most 40 of them"
        )
