"""What is wrong with a file, in words: one line for each mistake."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import ErrorDetails

from fairlead.manifest.lines import Located, Path, Problem, dotted
from fairlead.manifest.values import nearest, shown
from fairlead.manifest.vocabulary import Vocabulary

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def problems_of(
    errors: list[ErrorDetails], located: Located, vocabulary: Vocabulary
) -> list[Problem]:
    """Pydantic's errors, one for each mistake, without those that follow from another one."""
    paths = [located.path_of(error["loc"]) for error in errors]
    misspelt = {
        (
            located.path_of(error["loc"][:-1]),
            nearest(str(error["loc"][-1]), vocabulary.keys_at(error["loc"][:-1])),
        )
        for error in errors
        if error["type"] == "extra_forbidden"
    }
    problems = []
    for error, path in zip(errors, paths, strict=True):
        if error["type"] == "missing" and (path, error["loc"][-1]) in misspelt:
            continue
        if error["type"] == "too_short" and any(
            other != path and other[: len(path)] == path for other in paths
        ):
            continue
        if path not in located.unreadable:
            problems.append(_problem_of(error, located, vocabulary))
    return problems


def _problem_of(error: ErrorDetails, located: Located, vocabulary: Vocabulary) -> Problem:
    loc: Path = error["loc"]
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(loc, located, vocabulary)
        case "missing" | "union_tag_not_found":
            return _missing_key(error, located, vocabulary)
        case "union_tag_invalid":
            return _wrong_kind(loc, context, located, vocabulary)
        case "manifest":
            path = located.path_of((*loc, *context["at"]))
            return _problem(path, str(context["text"]), located, vocabulary)
    path = located.path_of(loc)
    must = f"must {_must(error, context)}"
    if "actual_length" in context:
        text = f"{must}; there are {context['actual_length']}"
        return _problem(path, text, located, vocabulary)
    if not _is_secret(path):
        must += f", not {shown(error['input'])}"
    return _problem(path, must, located, vocabulary)


def _must(error: ErrorDetails, context: dict[str, Any]) -> str:
    kind = error["type"]
    if kind in _KINDS:
        return f"be {_KINDS[kind]}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"be {words} {context[key]:g}"
    if kind == "literal_error":
        return f"be {context['expected'].replace(chr(39), chr(34))}"
    if kind == "string_too_short":
        return "not be empty"
    if kind == "string_too_long":
        return f"have at most {context['max_length']} characters"
    if kind == "too_short":
        return f"have {context['min_length']} or more items"
    if kind == "too_long":
        return f"have at most {context['max_length']} items"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(error["loc"][-1]), f"match {context['pattern']}")
    return f"be valid ({error['msg']})"


_PATTERNS = {
    "api_key_env": "be the name of an environment variable (never the key itself)",
    "api_key_file": "be an absolute path",
}


def _problem(path: Path, message: str, located: Located, vocabulary: Vocabulary) -> Problem:
    place = dotted(path) or vocabulary.title
    return Problem(located.lines[path], f"{place} {message}")


def _unknown_key(loc: Path, located: Located, vocabulary: Vocabulary) -> Problem:
    path = located.path_of(loc)
    key, parent = str(loc[-1]), dotted(located.path_of(loc[:-1]))
    message = f'unknown key "{key[:60]}"' + (f" in {parent}" if parent else "")
    known = vocabulary.keys_at(loc[:-1])
    near = nearest(key, known)
    elsewhere = [place for place in vocabulary.places_of(key) if place != parent]
    here = re.sub(r"\[\d+\]", "[]", parent)
    # Of several places, the one within this mapping is likely to be meant.
    within = [place for place in elsewhere if here and place.startswith(f"{here}.")]
    elsewhere = within if len(within) == 1 else elsewhere
    if near:
        message += f' (did you mean "{near}"?)'
    elif len(elsewhere) == 1:
        message += f' (it belongs in "{elsewhere[0]}")' if elsewhere[0] else " (it belongs on top)"
    elif known:
        message += f" (known here: {', '.join(known)})"
    return Problem(located.lines[path], message)


def _missing_key(error: ErrorDetails, located: Located, vocabulary: Vocabulary) -> Problem:
    loc: Path = error["loc"]
    if error["type"] == "union_tag_not_found":
        loc = (*loc, "kind")
    path = located.path_of(loc[:-1])
    where = dotted(path) if path else vocabulary.title
    return Problem(located.lines[path], f'{where} needs the key "{loc[-1]}"')


def _wrong_kind(
    loc: Path, context: dict[str, Any], located: Located, vocabulary: Vocabulary
) -> Problem:
    expected = re.findall(r"'([^']*)'", context["expected_tags"])
    given = str(context["tag"])
    near = nearest(given, expected)
    hint = f' (did you mean "{near}"?)' if near else ""
    path = located.path_of((*loc, "kind"))
    text = f"must be one of {', '.join(expected)}, not {shown(given)}{hint}"
    return _problem(path, text, located, vocabulary)


def _is_secret(path: Path) -> bool:
    """Someone may have put the key where its place belongs: such values are not repeated."""
    last = str(path[-1]) if path else ""
    return last.startswith(("api_key", "sha256")) or last.endswith("_env")
