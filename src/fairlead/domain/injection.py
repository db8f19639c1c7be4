r"""Signs of an attempt to talk a model out of its instructions (prompt injection, jailbreak).

A rate for monitors, and no guard: the wordings are those of well-known attempts, and whoever words
it anew, in another language or encoded, is not seen. A request with a sign may be harmless: someone
who asks what an injection is. Four signs, each a list of patterns (Perez, Ribeiro 2022, *Ignore
previous prompt*; Shen et al. 2024, *Do anything now*):

- `override`: to ignore, forget or go around the instructions so far.
- `reveal`: to show the instructions, the system prompt, or what was said before.
- `role_play`: to play a model that has no rules ("DAN", "developer mode").
- `markup`: marks that only the server writes, such as `<|im_start|>system`.

Only the first and the last `SCANNED_MAX` characters are looked at, in time linear in their number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from fairlead.domain.patterns import PATTERN_CHARS_MAX, found

SCANNED_MAX = 4_000
_GAP = r"(?:\W+\w+){0,5}?\W+"
"""Up to five words between two."""
_SHORT_GAP = r"(?:\W+\w+){0,3}?\W+"

_OVERRIDE = (
    # en
    rf"\b(?:ignore|disregard|forget|override|bypass|discard){_GAP}"
    r"(?:instructions?|guidelines?|directives|system prompt|programming)\b",
    r"\b(?:ignore|disregard|forget|override|bypass|discard)(?:\W+\w+){0,2}?\W+"
    r"(?:(?:your |any |all )?previous rules|your rules)\b",
    r"\b(?:ignore|disregard|forget) (?:everything|all|anything)(?: that)?"
    r"(?: (?:was|you were|has been|i))?(?: \w+)? (?:above|before|previously|told|said|so far)\b",
    r"\b(?:do not|don.t|stop) (?:follow|obey)(?:ing)? (?:your|the|any|these) "
    r"(?:\w+ )?(?:instructions|rules|guidelines)\b",
    # de, fr, es, it, pt
    rf"\b(?:ignorier\w*|vergiss|vergessen sie|missachte){_GAP}"
    r"(?:anweisung|instruktion|vorgabe|richtlinie|regeln)\w*",
    rf"\b(?:ignore[zr]?|oublie[zr]?){_GAP}(?:instructions?|consignes?|règles)\b",
    rf"\b(?:ignor[ae]|olvid[ae]|omite){_GAP}(?:instrucciones|indicaciones|reglas)\b",
    rf"\b(?:ignora|dimentica|scorda){_GAP}(?:istruzioni|indicazioni|regole)\b",
    rf"\b(?:ignore|esqueça|esquece|desconsidere){_GAP}(?:instruções|orientações|regras)\b",
    # nl, pl, tr
    rf"\b(?:negeer|vergeet){_GAP}(?:instructies|aanwijzingen|regels)\b",
    rf"\b(?:zignoruj|ignoruj|zapomnij){_GAP}(?:instrukcj|polece|zasad)\w*",
    rf"\b(?:talimat|yönerge)\w*{_SHORT_GAP}(?:yok say|unut|görmezden gel)",
    # ru, zh, ja
    rf"\b(?:игнорируй|забудь|проигнорируй)\w*{_GAP}(?:инструкци|указани|правил)\w*",
    r"(?:忽略|无视|忘记|忘掉).{0,12}(?:指令|指示|说明|规则|提示)",
    r"(?:指示|命令|ルール|プロンプト).{0,6}(?:無視|忘れ)",
)  # fmt: skip
_REVEAL = (
    rf"\b(?:reveal|show|print|repeat|output|display|leak|dump|tell|give|recite|quote){_GAP}"
    r"(?:(?:system|initial|hidden|original|secret|pre-?) ?(?:prompt|instructions)"
    r"|your (?:\w+ )?(?:prompt|instructions))\b",
    r"\bwhat (?:is|are|were|was) (?:your|the) (?:exact |full )?"
    r"(?:system|initial|hidden|original|secret) (?:prompt|instructions)\b",
    r"\b(?:repeat|print|output|copy) (?:all |everything |the )*(?:of )?(?:the )?"
    r"(?:words?|text|sentences|everything|content)? ?above\b",
    rf"\b(?:zeig\w*|nenn\w*|verrat\w*|gib){_GAP}system-?\W?(?:prompt|anweisung|nachricht)\w*",
    rf"\b(?:montre|affiche|révèle|donne){_GAP}(?:prompt|instructions?|invite) "
    r"(?:du |de )?(?:système|système|initiale?s?|system)\b",
    rf"\b(?:muestra|muéstra|revela|dime|mostra|rivela|mostre|revele)\w*{_GAP}"
    r"(?:prompt|instrucciones|istruzioni|instruções|mensaje) (?:del? |do |di )?"
    r"(?:sistema|iniciales|iniziali|iniciais|system)\b",
    rf"\b(?:покажи|раскрой|выведи)\w*{_GAP}системн\w+ (?:промпт|инструкц|сообщен)\w*",
    r"(?:显示|告诉我|输出|透露|重复).{0,10}(?:系统提示|系统指令|初始指令|提示词)",
    r"システムプロンプト.{0,8}(?:表示|教え|見せ|出力)",
)  # fmt: skip
_ROLE_PLAY = (
    r"\bdo anything now\b|\bjailbreak(?:ed|ing)? (?:mode|prompt|yourself|version)\b",
    r"\b(?:you are|act as|be|become|pretend to be|stay as|called) (?:now )?DAN\b",
    r"\b(?:developer|god|sudo|admin|debug|dev) mode (?:is )?(?:now )?"
    r"(?:enabled|activated|on|output|unlocked)\b",
    r"\b(?:enter|enable|activate|switch to) (?:developer|god|sudo|debug|unrestricted|jailbreak) "
    r"mode\b",
    rf"\b(?:act|pretend|roleplay|imagine|respond|answer|you are|you're|behave){_GAP}"
    r"(?:without|no|free of|freed from|not bound by)(?: any| your| all)? ?(?:\w+ )?"
    r"(?:restrictions|limitations|filters?|censorship|guidelines|ethical|content polic\w+)\b",
    rf"\b(?:act|pretend|roleplay|respond|you are){_GAP}(?:unrestricted|unfiltered|uncensored|amoral"
    r"|jailbroken)\b",
    r"\b(?:no longer|not) (?:bound|restricted|limited) by (?:your|any|the|openai)\b",
    rf"\b(?:tu|agis|actúa|actua|du bist|agisci|aja){_GAP}"
    r"(?:sans|sin|ohne|senza|sem) (?:aucune |ninguna |jede |alcuna |nenhuma )?"
    r"(?:restrictions?|restricci\w*|einschränkung\w*|restrizion\w*|restriç\w*|filtr\w*|limit\w*)",
)  # fmt: skip
_MARKUP = (
    r"<\|(?:im_start|im_end|system|start_header_id|eot_id|endoftext|begin_of_text)\|>",
    r"\[/?INST\]|<</?SYS>>|</?(?:system|system_prompt|start_of_turn|end_of_turn)>",
    r"(?:^|\n) ?#{2,} ?(?:system|new instructions?|instruction override)\b ?:?",
    r"(?:^|\n) ?\[?(?:begin |end )(?:of )?(?:system|admin|developer) (?:prompt|message|override)",
)  # fmt: skip


def _joined(patterns: Sequence[str]) -> tuple[str, ...]:
    """The same in as few patterns as their greatest length allows: one look costs less than ten."""
    made = [""]
    for pattern in patterns:
        together = f"{made[-1]}|{pattern}" if made[-1] else pattern
        if len(together) + len("(?i)") <= PATTERN_CHARS_MAX:
            made[-1] = together
        else:
            made.append(pattern)
    return tuple(f"(?i){each}" for each in made)


SIGNS = {
    "override": _joined(_OVERRIDE),
    "reveal": _joined(_REVEAL),
    "role_play": _joined(_ROLE_PLAY),
    "markup": _joined(_MARKUP),
}
"""Patterns by the name of the sign."""

_STEMS = {
    "override": (
        "ignor", "disregard", "forget", "override", "bypass", "discard", "follow", "obey",
        "vergiss", "vergess", "missacht", "oubli", "olvid", "omit", "dimentica", "scorda", "esque",
        "desconsidere", "negeer", "vergeet", "zapomnij", "yok say", "unut", "görmezden", "игнор",
        "забудь", "忽略", "无视", "忘", "無視",
    ),
    "reveal": (
        "prompt", "instru", " above", "system", "systèm", "sistem", "istruz", "iniziali", "iniciai",
        "систем", "系统", "初始", "提示词", "システム",
    ),
    "role_play": (
        "anything", "jailbreak", "jailbrok", "dan", " mode", "restri", "restriz", "limit", "filter",
        "filtr", "censor", "guideline", "ethical", "polic", "amoral", "bound", "einschränk",
    ),
    "markup": ("<", "[", "##", "prompt", "message", "override"),
}  # fmt: skip
"""Without any of these (in small letters) a text cannot have the sign: most need no pattern."""


def injection_sign(prompt: str) -> str:
    """The first sign that a prompt has, of `SIGNS`; empty if it has none."""
    if len(prompt) > 2 * SCANNED_MAX:
        prompt = f"{prompt[:SCANNED_MAX]}\n{prompt[-SCANNED_MAX:]}"
    plain = _plain(prompt)
    small = plain.lower()
    for name, patterns in SIGNS.items():
        may_have = any(stem in small for stem in _STEMS[name])
        if may_have and any(found(pattern, plain) for pattern in patterns):
            return name
    return ""


def _plain(text: str) -> str:
    """Without what hides words: wide and styled letters, letters of no width, runs of spaces."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text)
        text = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
