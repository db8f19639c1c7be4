"""What is taken out of a text before it is kept, and what is left alone."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.capture import REDACTIONS, Capture, check_capture, is_captured
from fairlead.domain.errors import InvalidInput
from fairlead.domain.redaction import Redactor

redact = Redactor(REDACTIONS)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("write to jane.doe+x@mail.example.co.uk.", "write to [email]."),
        ("my card 4111 1111 1111 1111, please", "my card [card], please"),
        ("4111-1111-1111-1111", "[card]"),
        ("378282246310005", "[card]"),
        ("account DE89 3704 0044 0532 0130 00 is mine", "account [iban] is mine"),
        ("de89370400440532013000", "[iban]"),
        ("GB82WEST12345698765432!", "[iban]!"),
        ("call +49 (30) 901820 or 00493090182", "call [phone] or [phone]"),
        ("030 / 901820, 555-123-4567, (555) 123-4567", "[phone], [phone], [phone]"),
        ("use sk-abcdefghijklmnop1234 now", "use [key] now"),
        ("fl-0123456789abcdef0123", "[key]"),
        ("ghp_0123456789abcdefghij and AKIAABCDEFGHIJKLMNOP", "[key] and [key]"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: [key]"),
        ("password = hunter2!", "[key]"),
        ('{"api_key": "0123456789"}', '{"[key]"}'),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[key]"),
        ("is it eyJ-or auth-eyJhbGciOiJIUzI1.eyJ-zdWIiOiIxIn0.c2ln?", "is it eyJ-or auth-[key]?"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[key]"),
    ],
)
def test_each_kind_is_taken_out(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "It was on 2026-11-26 at 10:30, and cost 1,234,567.89 dollars.",
        "4111 1111 1111 1112 fails the check of Luhn",
        "DE11 3704 1044 1532 1130 11 fails modulo 97",
        "The year 1999 and the numbers 12 34 56 78.",
        "pi is 3.14159265358979",
        "a token is a piece of a word",
        "@ alone",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_only_the_kinds_that_are_asked_for() -> None:
    assert Redactor(("email",))("a@b.de +49 30 901820") == "[email] +49 30 901820"


@pytest.mark.parametrize(
    ("pattern", "text", "kept"),
    [
        (r"KD-\d{4,}", "KD-12345 and KD-999999.", "[redacted] and [redacted]."),
        (r"\d+", "a1 b22", "a[redacted] b[redacted]"),
        (r"(?i)project \w+", "PROJECT Falcon it is", "[redacted] it is"),
        (r"x*", "ab", "[redacted]"),
        (r"\d", "1 " * 60, "[redacted]"),
    ],
)
def test_own_patterns(pattern: str, text: str, kept: str) -> None:
    """All of a match goes, not its shortest form alone; what is everywhere takes all the text."""
    assert Redactor((), (pattern,))(text) == kept


@given(st.text(max_size=60), st.text(alphabet="ab1-", max_size=20), st.text(max_size=60))
def test_no_match_of_an_own_pattern_is_left(before: str, middle: str, after: str) -> None:
    redacted = Redactor((), (r"a[b1]{1,3}-?",))(before + "ab" + middle + after)
    assert not any(left in redacted for left in ("ab", "a1"))


PIECES = [
    "a", "1", "1 ", "a.", "+1", "eyJa", "eyJa-", "DE12" + "A" * 30 + ",", "AB12", "key=", "@a",
    "-", "(",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Four times the text takes nowhere near sixteen times as long."""

    def took(size: int) -> float:
        text = (piece * size)[:size] + "@"
        begun = time.process_time()
        for _ in range(3):
            redact(text)
        return time.process_time() - begun

    took(1_000)
    short, long = min(took(10_000) for _ in range(2)), min(took(40_000) for _ in range(2))
    assert long < 10 * short + 0.2


def test_the_sample_is_of_its_share_and_stays_the_same() -> None:
    units = [f"{number:016x}" for number in range(20_000)]
    few, more = Capture(0.1), Capture(0.3)
    taken = [unit for unit in units if is_captured(few, unit)]
    assert 0.09 < len(taken) / len(units) < 0.11
    assert taken == [unit for unit in units if is_captured(few, unit)]
    assert all(is_captured(more, unit) for unit in taken)


@pytest.mark.parametrize(
    "wrong",
    [
        Capture(0.0), Capture(1.1), Capture(float("nan")), Capture(0.1, bytes_max=0),
        Capture(0.1, retention_s=float("inf")), Capture(0.1, per_minute=0),
        Capture(0.1, patterns=("(",)), Capture(0.1, patterns=("a",) * 21),
        Capture(0.1, patterns=(r"\w{150}",)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: Capture) -> None:
    with pytest.raises(InvalidInput, match=r"^capture\."):
        check_capture(wrong)


@pytest.mark.parametrize("country", ["DE", "GB", "NO", "MT", "FR"])
def test_an_iban_is_found_by_its_checksum_alone(country: str) -> None:
    """As ISO 7064 has it, with any letters and length, and with words behind it."""
    dice = random.Random(country)
    for length in range(11, 31):
        account = "".join(dice.choices("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=length))
        moved = "".join(str(int(letter, 36)) for letter in f"{account}{country}00")
        iban = f"{country}{98 - int(moved) % 97:02}{account}"
        spaced = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        assert redact(f"{iban}!") == "[iban]!"
        assert redact(f"({spaced})") == "([iban])"
