"""Words from outside: on one line, cut where that makes sense, and never live."""

from __future__ import annotations

import pytest

from fairlead.domain.release import shortened
from fairlead.monitoring.plain import BRIEF, brief, inert, one_line


@pytest.mark.parametrize(
    ("words", "cut"),
    [
        ("bank: slo is wrong", "bank: slo is wrong"),
        (
            "bank: 10.8% of 2,400 requests failed in 1 h: availability burns its error budget 21.7 "
            "times as fast as 99.5% of requests answered allows",
            "bank: 10.8% of 2,400 requests failed in 1 h",
        ),
        (f"bank: {'word ' * 40}", f"bank: {'word ' * 17}word…"),
        ("x" * 200, "x" * (BRIEF - 1) + "…"),
    ],
)
def test_a_summary_is_cut_where_a_part_of_it_ends(words: str, cut: str) -> None:
    assert brief(words) == cut
    assert len(cut) <= BRIEF
    assert brief(cut) == cut


def test_nobody_is_called_and_nothing_is_linked() -> None:
    said = inert("@all ada@example.org http://x.example WWW.example.org #12 # head 10:30")
    for live in ("@a", "@e", "://", "WWW.e", "#1"):
        assert live not in said
    assert said.replace("\u200b", "").startswith("@all ada@example.org http://x.example WWW.")
    assert said.endswith("# head 10:30")
    assert one_line(" a\n\u200b b\x1b[0m ") == "a b [0m"


def test_digests_are_short_in_words() -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    assert shortened(f"from {digest} to sha256:ab, not xsha256:ab") == (
        "from 0123456789ab to ab, not xsha256:ab"
    )
