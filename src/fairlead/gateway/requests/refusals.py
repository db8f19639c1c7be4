"""Whether the beginning of an answer declines to help: by wordings that models use, no judgement.

The text is put into a normal form (small letters, plain quotes, single spaces; what is quoted is
left out, unless all of it is). It has to *begin* with one of `OPENINGS`, or to have one of
`CLAUSES` at the start of a clause within its first `NEAR_CHARS` characters: "I understand, but I
can't help with that". A clause is stricter: it names what is declined. "I'm sorry to hear that",
"I can't find your order" and "I can't help but admire it" are none. What it cannot do: see a
refusal that comes later in the text or is worded in another way, a language that is not here, an
answer that evades. `tests/gateway/test_refusals.py` measures it on texts labelled by hand.
"""

from __future__ import annotations

import re

HEAD_CHARS = 2_048
"""Characters of an answer that are looked at."""
NEAR_CHARS = 300
"""Of its normal form, those in which a clause counts."""

_AI = r"(?:as an? (?:ai|(?:large )?language model)(?: language model| assistant| model)?,? )?"
_NOT_EN = (
    r"(?:can't|cannot|can not|won't|will not|am unable to|am not able to|'m unable to|"
    r"'m not able to|'m not going to|am not going to)(?: and (?:will not|won't))?(?: be able to)?"
    r"(?: in good conscience| in any way| possibly)?"
)
_WHAT_EN = (
    r"(?:help(?! (?:but|\w+ing)\b)|assist|comply|fulfil|fulfill|provide|do (?:that|this)|answer|"
    r"support|create|generate|write|engage|discuss|share(?! your\b)|continue|participate|"
    r"give(?! away\b)|offer|produce|promote|complete|respond|process|carry out|take part|diagnose|"
    r"advise|with (?:that|this))"
)
_POLICY_EN = r"(?:my|our|the) (?:\w+ ){0,2}(?:guidelines|polic(?:y|ies)|rules|principles)"
OPENINGS: dict[str, tuple[str, ...]] = {
    "en": (
        r"(?:(?:i'm|i am|im) (?:\w+ )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately)?"
        rf"[,.!:; ]*(?:but |however,? )?{_AI}(?:i )"
        rf"{_NOT_EN}(?: (?!wait\b)\w+)? {_WHAT_EN}",
        rf"{_AI}i(?:'m| am) (?:unable|not able) to (?:\w+ )?{_WHAT_EN}",
        rf"(?:(?:i'm|i am) sorry|sorry)[,.!:; ]*(?:but )?{_AI}i(?:'m| am) (?:unable|not able) to ",
        r"i (?:must|have to|need to) (?:respectfully )?(?:decline|refuse)",
        r"i(?:'m| am) not (?:comfortable|allowed|permitted)",
        r"(?:i'm |i am )?sorry[,.!:; ]*(?:but )?(?:that|this) (?:request )?(?:is|goes) "
        r"(?:not something i can|against)",
    ),
    "de": (
        r"(?:es tut mir leid|tut mir leid|entschuldigung|leider)[,.!:; ]*(?:aber )?"
        r"(?:ich kann|kann ich|ich darf|darf ich|ich bin nicht in der lage)",
        r"ich (?:kann|darf|werde) (?:ihnen |dir |euch )?(?:dabei|damit|bei dieser|diese anfrage|"
        r"dieser anfrage|das) (?:leider )?nicht",
    ),
    "fr": (
        r"(?:je suis désolée?|désolée?|je m'excuse)[,.!:; ]*(?:mais )?"
        r"je ne (?:peux|suis pas en mesure)",
        r"je ne (?:peux|suis) pas (?:en mesure de )?(?:vous |t')?"
        r"(?:aider|répondre|fournir|assister)",
    ),
    "es": (
        r"(?:lo siento|disculpa|lamento)[,.!:; ]*(?:pero )?no (?:puedo|estoy en condiciones)",
        r"no puedo (?:ayudar|responder|proporcionar|cumplir|asistir)",
    ),
    "it": (
        r"(?:mi dispiace|spiacente)[,.!:; ]*(?:ma )?non (?:posso|sono in grado)",
        r"non posso (?:aiutar|rispondere|fornire|assister)",
    ),
    "pt": (
        r"(?:desculpe|sinto muito|lamento)[,.!:; ]*(?:mas )?(?:eu )?não posso",
        r"(?:eu )?não posso (?:ajudar|responder|fornecer|atender)",
    ),
    "nl": (
        r"(?:het spijt me|sorry|helaas)[,.!:; ]*(?:maar )?(?:ik kan|kan ik)[^.]{0,60} niet",
        r"ik kan (?:u |je |jou )?(?:hier|daar)(?:mee|bij) niet",
    ),
    "pl": (r"(?:przykro mi|przepraszam|niestety)[,.!:; ]*(?:ale )?nie mog[ęe]",),
    "ru": (r"(?:извините|простите|к сожалению|мне жаль)[,.!:; ]*(?:но )?(?:я )?не могу",),
    "zh": (r"(?:很?抱歉|对不起|對不起|不好意思)[,,。.!! ]*(?:但)?我?(?:无法|無法|不能)",),
    "ja": (
        r"(?:申し訳(?:ありません|ございません)|すみません)[^。]{0,60}(?:できません|できかねます)",
    ),
    "ko": (r"(?:죄송합니다|죄송하지만|미안하지만)[^.]{0,60}(?:수 없습니다|드릴 수 없)",),
}
"""By language, what a refusal begins with, in the normal form."""

CLAUSES: dict[str, tuple[str, ...]] = {
    "en": (
        rf"(?:i|we) ?{_NOT_EN} {_WHAT_EN}",
        rf"i(?:'m| am) [^.!?]{{0,60}}? and {_NOT_EN} {_WHAT_EN}",
        r"i (?:do not|don't) (?:engage in|participate in|provide|support|produce|create)",
        r"i(?:'m| am)? (?:do not|don't|not) (?:have permission|authori[sz]ed|permitted|allowed) to",
        r"(?:this|that|your|the) (?:request|question|prompt) (?:has been|was) (?:declined|blocked|"
        r"rejected)",
        r"(?:it|this|that) (?:is|goes) against my (?:instructions|guidelines|rules|principles)",
        rf"as an? (?:ai|(?:large )?language model)(?: \w+){{0,2}},? i ?{_NOT_EN} "
        r"(?!feel|see|taste)",
        r"(?:that|this|it)(?:'s| is) (?:not something i(?: can|'m able| am able| will)\b|"
        r"something i (?:can't|cannot|won't))",
        r"i (?:don't|do not) feel comfortable",
        r"i(?:'m going to| will|'ll)? (?:must|have to|need to) (?:respectfully )?"
        r"(?:decline|refuse)",
        r"i(?:'d| would) (?:rather not|prefer not to) (?:answer|write|help|discuss|share|do|say)",
        rf"(?:(?:this|that|your|the) (?:request|question|topic|prompt)|this|that|it) "
        rf"(?:goes against|is against|violates|breaks) (?:{_POLICY_EN}|what i)",
        r"(?:(?:this|that|your|the) (?:request|question|topic)|this|that|it) (?:is|falls) "
        r"(?:outside|beyond)(?: of)? (?:my|what i)",
        r"i(?:'m| am| can)? only (?:able to |allowed to |here to )?(?:answer|help|assist|discuss)",
    ),
    "de": (
        r"(?:dabei|damit|hierbei|das|dies|diese (?:frage|anfrage)) (?:kann|darf|werde) ich "
        r"(?:\w+ ){0,2}?nicht (?:helfen|weiterhelfen|beantworten|unterstützen|tun|erfüllen)",
        r"ich (?:kann|darf|werde) (?:ihnen |dir |euch )?(?:dabei|damit|hierbei|das) (?:leider )?"
        r"nicht (?:helfen|weiterhelfen|beantworten|unterstützen|tun|erfüllen)",
        r"ich muss (?:das|dies|diese (?:bitte|anfrage)) (?:leider )?ablehnen",
    ),
    "fr": (
        r"je ne peux (?:malheureusement )?pas (?:vous |t'|te )?(?:aider|répondre|fournir|"
        r"faire (?:cela|ça))",
    ),
    "es": (r"no puedo (?:ayudar|responder|proporcionar|cumplir)",),
    "it": (r"non posso (?:aiutar|rispondere|fornire)",),
    "pt": (r"(?:eu )?não posso (?:ajudar|responder|fornecer)",),
    "nl": (r"(?:daar|hier) kan ik (?:je |jou |u )?(?:helaas )?niet (?:mee|bij) helpen",),
}
"""By language, a clause that declines; it says what."""

_OPENING = re.compile("|".join(p for patterns in OPENINGS.values() for p in patterns))
_CLAUSE = re.compile(
    r"(?:^|[.!?:;,)*>–—-] ?|\b(?:but|however|so|and|that|reason|afraid|sorry|unfortunately|"
    r"purtroppo|mais|pero|"
    rf"aber|ma|mas|maar) )(?:{'|'.join(p for patterns in CLAUSES.values() for p in patterns)})"
)
_MARKS = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"'})
_LOOKED_AT = 2 * NEAR_CHARS
_BEFORE = re.compile(r"^[\W_]+")
_QUOTED = re.compile(r'"[^"]{0,400}"|«[^»]{0,400}»|「[^」]{0,400}」')


def is_refusal(text: str) -> bool:
    """Whether the text begins as a refusal does."""
    head = " ".join(text[:_LOOKED_AT].translate(_MARKS).lower().split())
    # Who quotes a refusal does not refuse; a text that is a quotation as a whole may.
    head = _BEFORE.sub("", _QUOTED.sub('"', head)) or _BEFORE.sub("", head)
    return _OPENING.match(head) is not None or _CLAUSE.search(head, 0, NEAR_CHARS) is not None
