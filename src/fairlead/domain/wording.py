"""Numbers of things in the messages that people read."""

from __future__ import annotations


def count_of(number: int, noun: str) -> str:
    """`1 worker`, `2 workers`; for nouns that take an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
