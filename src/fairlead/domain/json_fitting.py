"""Whether a JSON value fits a JSON Schema, in bounded steps, with pauses between them.

It says the same as `jsonschema` (`tests/domain/test_json_fitting.py` holds the one against the
other), and puts nothing into words, which is what a large value takes most time with there. Who
goes through it may pause wherever it does: each part takes some milliseconds at most. What no
bound holds for (`_REFUSED`) is refused.

A step is one place of the value held against one part of the schema, one keyword there, each value
that the keyword lists and each property or item that it goes through. A reference takes
`REFERENCE_STEPS`, and a pattern as many as its places (`pattern_size`) and the text's length say.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sized
from fractions import Fraction
from typing import Any

from fairlead.domain.json_ready import Ready, ready
from fairlead.domain.json_schemas import REFERENCE_STEPS, STEPS_MAX, BadSchema
from fairlead.domain.json_types import TYPES
from fairlead.domain.pattern_size import size_of
from fairlead.domain.patterns import BadPattern, found

PAUSE_STEPS = 1_000
"""After so many steps there is a pause."""
PATTERN_WORK_MAX = 4_000_000
"""Characters of a text times places of the pattern that is looked for in it: some milliseconds."""
_PATTERN_WORK = 400
"""So much of that takes as long as one step."""
_REFUSED = frozenset(
    {"patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"}
)

Fitting = Generator[None, None, bool]
"""Pauses now and then; returns whether the value fits."""


def fitting(encoded: bytes, value: Any, steps_max: int = STEPS_MAX) -> Fitting:
    """Whether a value fits the schema.

    Args:
        encoded: The schema as JSON.
        steps_max: So many steps may it take.

    Raises:
        BadSchema: Also for a value that takes more steps.
        msgspec.DecodeError: The schema is no JSON object.
    """
    from referencing.exceptions import Unresolvable

    try:
        schema = ready(encoded)
        return (yield from _Check(schema, steps_max).holds(schema.rules, value, schema.resolver))
    except Unresolvable as error:
        raise BadSchema(f"a reference leads nowhere: {error.ref}") from None
    except BadPattern as error:
        raise BadSchema(f"a pattern cannot be used: {error}") from None
    except RecursionError:
        raise BadSchema("schema and value are nested too deeply") from None
    except (TypeError, AttributeError, LookupError) as error:  # Nobody has checked it.
        raise BadSchema(f"it is no schema: {error}") from None


def fits(encoded: bytes, value: Any, steps_max: int = STEPS_MAX) -> bool:
    """The same without a pause."""
    check = fitting(encoded, value, steps_max)
    while True:
        try:
            next(check)
        except StopIteration as end:
            return bool(end.value)


class _Check:
    """One value against one schema."""

    def __init__(self, schema: Ready, steps_max: int) -> None:
        self._left = steps_max
        self._pause_at = steps_max - PAUSE_STEPS
        self._keywords = schema.keywords
        self._specification = schema.specification
        self._is_draft_7 = schema.is_draft_7

    def spend(self, steps: int) -> None:
        """Raises BadSchema when these are too many."""
        self._left -= steps
        if self._left < 0:
            raise BadSchema("it takes too many steps to tell whether this value fits")

    def fits(self, schema: Any, value: Any, resolver: Any) -> Fitting:
        """Whether a value fits a part of the schema."""
        if isinstance(schema, dict) and "$id" in schema:
            resolver = resolver.in_subresource(self._specification.create_resource(schema))
        return self.holds(schema, value, resolver)

    def holds(self, schema: Any, value: Any, resolver: Any) -> Fitting:
        """The same with the resolver that belongs to this part."""
        self.spend(1)
        if self._left <= self._pause_at:
            self._pause_at = self._left - PAUSE_STEPS
            yield
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise BadSchema("a reference leads to what is no schema")
        for name in ("$ref",) if self._is_draft_7 and "$ref" in schema else schema:
            if name not in self._keywords:
                continue
            self.spend(1)
            rule = schema[name]
            leaf = _LEAVES.get(name)
            if leaf is not None:
                if not leaf(self, rule, value):
                    return False
                continue
            part = _PARTS.get(name)
            if part is not None:
                if not (yield from part(self, rule, value, schema, resolver)):
                    return False
            elif name in _REFUSED:
                raise BadSchema(f"{name} takes too long to be looked at")
        return True

    # Several at once

    def all_of(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        for one in rule:
            if not (yield from self.fits(one, value, resolver)):
                return False
        return True

    def any_of(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        for one in rule:
            if (yield from self.fits(one, value, resolver)):
                return True
        return False

    def one_of(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        count = 0
        for one in rule:
            count += yield from self.fits(one, value, resolver)
            if count > 1:
                return False
        return count == 1

    def not_(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        return not (yield from self.fits(rule, value, resolver))

    def if_(self, rule: Any, value: Any, schema: Any, resolver: Any) -> Fitting:
        name = "then" if (yield from self.fits(rule, value, resolver)) else "else"
        return name not in schema or (yield from self.fits(schema[name], value, resolver))

    def reference(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        self.spend(REFERENCE_STEPS)
        found_at = resolver.lookup(rule)
        return (yield from self.holds(found_at.contents, value, found_at.resolver))

    def again(self, _rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        from referencing.jsonschema import lookup_recursive_ref

        self.spend(REFERENCE_STEPS)
        found_at = lookup_recursive_ref(resolver)
        return (yield from self.holds(found_at.contents, value, found_at.resolver))

    # Of objects

    def properties(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        if isinstance(value, dict):
            self.spend(min(len(rule), len(value)))
            names = rule if len(rule) < len(value) else value
            for name in names:
                is_both = name in rule and name in value
                if is_both and not (yield from self.fits(rule[name], value[name], resolver)):
                    return False
        return True

    def additional_properties(self, rule: Any, value: Any, schema: Any, resolver: Any) -> Fitting:
        if isinstance(value, dict):
            self.spend(len(value))
            if "patternProperties" in schema:
                raise BadSchema("patternProperties takes too long to be looked at")
            known = schema.get("properties", {})
            for name in value:
                if name not in known and not (yield from self.fits(rule, value[name], resolver)):
                    return False
        return True

    def property_names(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        for name in value if isinstance(value, dict) else ():
            if not (yield from self.fits(rule, name, resolver)):
                return False
        return True

    def dependent_schemas(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        """Of draft 7 as well, where a list names what has to be there."""
        if isinstance(value, dict):
            self.spend(len(rule))
            for name, one in rule.items():
                if name not in value:
                    continue
                if isinstance(one, list):
                    if not self.has_all(one, value):
                        return False
                elif not (yield from self.fits(one, value, resolver)):
                    return False
        return True

    def has_all(self, names: list[str], value: Any) -> bool:
        self.spend(len(names))
        return all(name in value for name in names)

    # Of arrays

    def items(self, rule: Any, value: Any, schema: Any, resolver: Any) -> Fitting:
        if isinstance(rule, list):  # Not in 2020-12, and what is called like this only there.
            return self.prefix_items(rule, value, schema, resolver)
        has_prefix = "prefixItems" in self._keywords and "prefixItems" in schema
        known = len(schema["prefixItems"]) if has_prefix else 0
        return self.each_from(known, rule, value, resolver)

    def prefix_items(self, rule: Any, value: Any, _schema: Any, resolver: Any) -> Fitting:
        for one, item in zip(rule, value if isinstance(value, list) else (), strict=False):
            if not (yield from self.fits(one, item, resolver)):
                return False
        return True

    def additional_items(self, rule: Any, value: Any, schema: Any, resolver: Any) -> Fitting:
        known = schema.get("items")
        start = len(known) if isinstance(known, list) else None
        return self.each_from(start, rule, value, resolver)

    def each_from(self, start: int | None, rule: Any, value: Any, resolver: Any) -> Fitting:
        if not isinstance(value, list) or start is None:
            return True
        for place in range(start, len(value)):
            if not (yield from self.fits(rule, value[place], resolver)):
                return False
        return True

    def contains(self, rule: Any, value: Any, schema: Any, resolver: Any) -> Fitting:
        if not isinstance(value, list):
            return True
        least = 1 if self._is_draft_7 else schema.get("minContains", 1)
        most = len(value) if self._is_draft_7 else schema.get("maxContains", len(value))
        count = 0
        for item in value:
            count += yield from self.fits(rule, item, resolver)
            if count > most:
                return False
        return bool(count >= least)

    # Of one value by itself

    def is_one_of(self, rule: Any, value: Any) -> bool:
        self.spend(len(rule))
        return any(self.same(each, value) for each in rule)

    def same(self, one: Any, two: Any) -> bool:
        """As JSON has it: `true` is not 1, and 1.0 is."""
        if isinstance(one, list) and isinstance(two, list):
            self.spend(min(len(one), len(two)))
            return len(one) == len(two) and all(map(self.same, one, two))
        if isinstance(one, dict) and isinstance(two, dict):
            self.spend(min(len(one), len(two)))
            return len(one) == len(two) and all(
                name in two and self.same(part, two[name]) for name, part in one.items()
            )
        if isinstance(one, bool) or isinstance(two, bool):
            return one is two
        return bool(one == two)

    def matches(self, rule: Any, value: Any) -> bool:
        if not isinstance(value, str):
            return True
        work = len(value) * max(1, size_of(rule).places)
        if work > PATTERN_WORK_MAX:
            raise BadSchema("a text is too long to be looked through by a pattern")
        self.spend(work // _PATTERN_WORK)
        return found(rule, value)

    def depends(self, rule: Any, value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        self.spend(len(rule))
        return all(self.has_all(names, value) for name, names in rule.items() if name in value)


def _has_type(rule: Any, value: Any) -> bool:
    names = [rule] if isinstance(rule, str) else rule
    return any(TYPES[name](value) for name in names)


def _is_multiple(rule: Any, value: Any) -> bool:
    if not TYPES["number"](value):
        return True
    if not isinstance(rule, float):
        return not value % rule
    try:
        quotient = value / rule
        return bool(int(quotient) == quotient)
    except OverflowError:
        return (Fraction(value) / Fraction(rule)).denominator == 1


_Leaf = Callable[[_Check, Any, Any], bool]
_Part = Callable[[_Check, Any, Any, Any, Any], Fitting]


def _of(kind: type[Sized], holds: Callable[[int, int], bool]) -> _Leaf:
    """A bound on how long something of this kind is."""
    return lambda _, rule, value: not isinstance(value, kind) or holds(len(value), rule)


def _of_number(holds: Callable[[float, float], bool]) -> _Leaf:
    return lambda _, rule, value: not TYPES["number"](value) or holds(value, rule)


def _at_least(one: float, two: float) -> bool:
    return one >= two


def _at_most(one: float, two: float) -> bool:
    return one <= two


_LEAVES: dict[str, _Leaf] = {
    "type": lambda _, rule, value: _has_type(rule, value),
    "enum": _Check.is_one_of,
    "const": lambda check, rule, value: check.same(rule, value),
    "pattern": _Check.matches,
    "required": lambda check, rule, value: (
        not isinstance(value, dict) or check.has_all(rule, value)
    ),
    "dependentRequired": _Check.depends,
    "multipleOf": lambda _, rule, value: _is_multiple(rule, value),
    "minimum": _of_number(_at_least),
    "maximum": _of_number(_at_most),
    "exclusiveMinimum": _of_number(lambda one, two: one > two),
    "exclusiveMaximum": _of_number(lambda one, two: one < two),
    "minLength": _of(str, _at_least),
    "maxLength": _of(str, _at_most),
    "minItems": _of(list, _at_least),
    "maxItems": _of(list, _at_most),
    "minProperties": _of(dict, _at_least),
    "maxProperties": _of(dict, _at_most),
}
_PARTS: dict[str, _Part] = {
    "$ref": _Check.reference,
    "$dynamicRef": _Check.reference,
    "$recursiveRef": _Check.again,
    "allOf": _Check.all_of,
    "anyOf": _Check.any_of,
    "oneOf": _Check.one_of,
    "not": _Check.not_,
    "if": _Check.if_,
    "properties": _Check.properties,
    "additionalProperties": _Check.additional_properties,
    "propertyNames": _Check.property_names,
    "dependentSchemas": _Check.dependent_schemas,
    "dependencies": _Check.dependent_schemas,
    "items": _Check.items,
    "prefixItems": _Check.prefix_items,
    "additionalItems": _Check.additional_items,
    "contains": _Check.contains,
}
