"""Looping texts, scripts, languages and lengths are told apart, on real questions too."""

import csv
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.text_signals import (
    LANGUAGES,
    SCANNED_MAX,
    language,
    language_class,
    length_class,
    loops,
    repetition,
    script,
)
from support.data_sets import BANKING77, needs_banking77

SENTENCES = {
    "en": "How can I change the address that you have for my account?",
    "de": "Wie kann ich die Adresse ändern, und ist das auch mit der App möglich?",
    "fr": "Comment je peux changer l'adresse qui est sur mon compte dans la banque ?",
    "es": "¿Cómo puedo cambiar la dirección que está en mi cuenta con los datos?",
    "it": "Come posso cambiare il mio indirizzo, che non è più quello della banca?",
    "pt": "Como posso mudar o meu endereço, que não está mais certo para você?",
    "nl": "Hoe kan ik het adres van mijn rekening veranderen, en is dat ook gratis?",
    "pl": "Jak mogę zmienić adres, który jest na koncie, czy to się da zrobić?",
    "sv": "Hur kan jag ändra min adress, och är det något som inte kostar för mig?",
    "tr": "Adresimi nasıl değiştirebilirim, bu işlem için bir ücret var mı ve ne kadar?",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_each_language_is_told(name: str) -> None:
    assert language(SENTENCES[name]) == name
    assert language_class(SENTENCES[name]) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Как изменить мой адрес?", "cyrillic"),
        ("如何更改我的地址？", "cjk"),
        ("住所を変更するにはどうすればよいですか", "kana"),
        ("주소를 어떻게 변경하나요?", "hangul"),
        ("كيف أغير عنواني؟", "arabic"),
        ("मैं अपना पता कैसे बदलूं?", "devanagari"),
        ("zzz qqq", "latin"),
        ("12345 !?", None),
        ("", None),
        ("a", None),
    ],
)
def test_each_script_is_told(text: str, expected: str | None) -> None:
    assert script(text) == expected
    assert language(text) is None
    assert language_class(text) == (expected or "none")


@needs_banking77
def test_real_questions_are_english_and_do_not_loop() -> None:
    with (BANKING77 / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    told = [language(text) for text in texts]
    assert told.count("en") >= 0.93 * len(texts)
    assert sum(each not in ("en", None) for each in told) <= 0.01 * len(texts)
    assert not any(loops(text) for text in texts)
    assert repetition(" ".join(dict.fromkeys(texts))) < 0.05


def test_a_loop_is_told_from_a_list() -> None:
    assert loops("I am sorry, I cannot help with that. " * 20)
    assert loops("ha" * 500)
    assert loops("The answer is: " + "no no no " * 40)
    assert not loops(
        "\n".join(f"{n}. Department {n * 7}: open from {n} to {n + 8}" for n in range(40))
    )
    prose = " ".join(f"word{n} of{n % 97} many{n % 89}" for n in range(3_000))
    assert len(prose) > SCANNED_MAX
    assert not loops(prose)
    assert loops(prose + " and so on, again and again" * 120)
    assert loops(prose[:9_000] + " and so on, again and again" * 120)
    assert repetition("short short short") == 0.0
    assert repetition("") == 0.0


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, 0), (1, 1), (15, 1), (16, 2), (1_023, 4), (1_024, 5), (10**9, 7)]
)
def test_length_classes(tokens: int, expected: int) -> None:
    assert length_class(tokens) == expected


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        length_class(-1)


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    assert 0.0 <= repetition(text) <= 1.0
    assert language_class(text)


def test_a_huge_text_costs_no_more_than_its_beginning() -> None:
    """What comes after the part that is looked at changes nothing."""
    begun = ("word and the next " * SCANNED_MAX)[:SCANNED_MAX]
    long = begun + "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3_000_000
    before = time.process_time()
    assert (repetition(long), language_class(long)) == (repetition(begun), language_class(begun))
    assert time.process_time() - before < 5.0
