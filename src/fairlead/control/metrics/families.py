"""Families that are made anew for each scrape, from what is the case."""

from __future__ import annotations

from fairlead.gateway.records.metric_families import Family, FamilyState, Labels


class Families:
    """Those of one scrape, in the order in which they were made."""

    def __init__(self) -> None:
        self._made: list[Family] = []

    def gauge(self, name: str, help_text: str, labels: Labels = ()) -> Family:
        """Another gauge; one without labels is 0 until it is set."""
        self._made.append(Family(name, "gauge", help_text, labels))
        return self._made[-1]

    def counter(self, name: str, help_text: str, labels: Labels = ()) -> Family:
        """Another counter; one without labels is 0 until it is counted in."""
        self._made.append(Family(name, "counter", help_text, labels))
        return self._made[-1]

    def states(self) -> list[FamilyState]:
        """All of them."""
        return [family.state() for family in self._made]
