"""JSON Schemas made ready for `json_fitting`: their drafts, keywords and references."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairlead.domain.json_schemas import DRAFTS, KEPT_BYTES_MAX, rules_of
from fairlead.domain.sized_cache import kept_by_size

_IN_ALL = frozenset(
    {
        "$ref", "additionalProperties", "allOf", "anyOf", "const", "contains", "enum",
        "exclusiveMaximum", "exclusiveMinimum", "if", "items", "maxItems", "maxLength",
        "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum",
        "multipleOf", "not", "oneOf", "pattern", "patternProperties", "properties",
        "propertyNames", "required", "type", "uniqueItems",
    }
)  # fmt: skip
_DEPENDENT = {"dependentRequired", "dependentSchemas"}
_UNEVALUATED = {"unevaluatedItems", "unevaluatedProperties"}
KEYWORDS = {
    DRAFTS[0]: _IN_ALL | _DEPENDENT | _UNEVALUATED | {"$dynamicRef", "prefixItems"},
    DRAFTS[1]: _IN_ALL | _DEPENDENT | _UNEVALUATED | {"$recursiveRef", "additionalItems"},
    DRAFTS[2]: _IN_ALL | {"additionalItems", "dependencies"},
}
"""By draft; all others are remarks."""


class Ready(NamedTuple):
    """A schema that is ready for use.

    Attributes:
        keywords: Those that mean something in its draft.
        is_draft_7: In which nothing beside a reference counts.
        specification: Of the draft, as the library `referencing` has it; it made `resolver`.
        rules: The schema without the name of its draft.
        resolver: Follows references.
    """

    keywords: frozenset[str]
    is_draft_7: bool
    specification: Any
    rules: dict[str, Any]
    resolver: Any


@kept_by_size(KEPT_BYTES_MAX)
def ready(encoded: bytes) -> Ready:
    """A schema, as JSON, ready for use; whether all of it is as it should be shows when it is used.

    Raises:
        BadSchema: It cannot be used.
        msgspec.DecodeError: It is no JSON object.
    """
    from referencing import Registry
    from referencing.jsonschema import specification_with

    draft, rules = rules_of(encoded)
    specification = specification_with(draft)
    resource = specification.create_resource(rules)
    place = resource.id() or ""
    # All of it is looked through once, and not at each reference to a name in it.
    registry: Any = Registry().with_resource(place, resource).crawl()
    resolver = registry.resolver(place)
    return Ready(KEYWORDS[draft], draft == DRAFTS[2], specification, rules, resolver)
