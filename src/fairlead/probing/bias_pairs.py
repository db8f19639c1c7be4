"""Which pairs of requests a release is asked, in which order: the same ones whoever asks, pure.

A contrast is an attribute's first group and one of the others. Its pairs are all templates with all
details, at all places of the groups' texts, in an order drawn by the hash of what is asked; each
request is in one pair of a contrast only. So no pair's difference follows from an earlier one.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fairlead.domain.release import sha256_digest
from fairlead.probing.bias_model import (
    PAIRS_MAX,
    PLACE,
    Attribute,
    BiasSpec,
    Detail,
    Outcome,
    Template,
)
from fairlead.probing.bias_sets import BUILTIN, DETAILS, builtin_templates


class Pair(NamedTuple):
    """One pair.

    Attributes:
        contrast: `attribute/group`, the group being the other one.
        first, other: The requests.
        first_text, other_text: Those texts in which they differ.
        expected: What a correct answer contains; None where correctness is not compared.
    """

    contrast: str
    first: str
    other: str
    first_text: str
    other_text: str
    expected: str | None


class Contrast:
    """An attribute's first group, and one of the others.

    Args:
        seed: Says the order of the pairs.
    """

    def __init__(
        self,
        attribute: Attribute,
        place: int,
        templates: Sequence[Template],
        details: Sequence[Detail],
        seed: str,
    ) -> None:
        self.attribute = attribute.name
        self.first = attribute.groups[0].name
        self.group = attribute.groups[place].name
        self._texts = attribute.groups[0].texts, attribute.groups[place].texts
        own = "{" + attribute.name + "}"
        self._templates = [template for template in templates if own in template.text]
        self._details = {detail.name: detail.texts for detail in details}
        self._counts = [self._count(template) for template in self._templates]
        total = sum(self._counts) * len(self._texts[0])
        # Only the same order again is asked for, not that it cannot be foretold.
        dice = random.Random(f"{seed} {self.id}")  # noqa: S311
        self._order = dice.sample(range(total), min(total, PAIRS_MAX))

    @property
    def id(self) -> str:
        """`attribute/group`."""
        return f"{self.attribute}/{self.group}"

    @property
    def has_expected(self) -> bool:
        """Whether correctness can be compared at all."""
        return any(template.expected is not None for template in self._templates)

    def __len__(self) -> int:
        return len(self._order)

    def pair(self, number: int) -> Pair:
        """The pair with this number, from 0."""
        made, at = divmod(self._order[number], len(self._texts[0]))
        which = 0
        while made >= self._counts[which]:
            made -= self._counts[which]
            which += 1
        template = self._templates[which]
        texts = {}
        for name in self._places(template):
            made, chosen = divmod(made, len(self._details[name]))
            texts[name] = self._details[name][chosen]
        first, other = (group[at] for group in self._texts)
        return Pair(
            self.id,
            _filled(template.text, {**texts, self.attribute: first}),
            _filled(template.text, {**texts, self.attribute: other}),
            first,
            other,
            template.expected,
        )

    def _places(self, template: Template) -> list[str]:
        return sorted(set(PLACE.findall(template.text)) & set(self._details))

    def _count(self, template: Template) -> int:
        return math.prod(len(self._details[name]) for name in self._places(template))


class Plan(NamedTuple):
    """All that is compared.

    Attributes:
        asked: Digest of what is asked, and of how it is compared.
        contrasts: By id.
        outcomes: In what the answers of a contrast's pairs are compared, by its id.
    """

    asked: str
    contrasts: dict[str, Contrast]
    outcomes: dict[str, tuple[Outcome, ...]]

    @property
    def tests(self) -> int:
        """How many comparisons are made in all."""
        return sum(map(len, self.outcomes.values()))

    @property
    def pairs(self) -> int:
        """How many pairs there are to ask."""
        return sum(map(len, self.contrasts.values()))


@functools.lru_cache(maxsize=64)
def plan_of(spec: BiasSpec) -> Plan:
    """What is asked under a spec."""
    sets = [(spec.attributes, spec.templates, spec.details)]
    sets += [((BUILTIN[name],), builtin_templates(name), DETAILS) for name in spec.builtin]
    document = msgspec.json.encode([sets, spec.outcomes, spec.max_tokens], order="sorted")
    asked = sha256_digest(document)
    contrasts: dict[str, Contrast] = {}
    for attributes, templates, details in sets:
        for attribute in attributes:
            for place in range(1, len(attribute.groups)):
                contrast = Contrast(attribute, place, templates, details, asked)
                contrasts[contrast.id] = contrast
    outcomes: dict[str, tuple[Outcome, ...]] = {
        name: tuple(
            each for each in spec.outcomes if each != "correctness" or contrast.has_expected
        )
        for name, contrast in contrasts.items()
    }
    return Plan(asked, contrasts, outcomes)


def _filled(text: str, texts: dict[str, str]) -> str:
    return PLACE.sub(lambda match: texts[match[1]], text)
