"""The stratum of risk of a request, when it is assigned. Pure.

By what is at hand then: its size and a search for one word are all that is looked at of its body.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from fairlead.domain.strata import ENDPOINTS, SIZES, Strata
from fairlead.wire.snapshot import KeyEntry

Stratify = Callable[[str, str, bytes, bytes | None], int]
"""From the kind of a request (as in `Call`), its key's id, its body and what its client says of it
to its stratum, the number that its record has."""

_TOOLS = b'"tools"'


def stratify(strata: Strata, keys: Iterable[KeyEntry]) -> Stratify:
    """How the requests of a service are told apart. It depends on nothing that a release does."""
    if strata.by == "size":
        return lambda _kind, _key, body, _said: bisect_right(SIZES, len(body))
    if strata.by == "tools":
        return lambda _kind, _key, body, _said: int(_TOOLS in body)
    places = {value: place for place, value in enumerate(strata.values)}
    others = len(places)
    if strata.by == "endpoint":
        kinds = {kind: place for place, kind in enumerate(ENDPOINTS)}
        return lambda kind, _key, _body, _said: kinds.get(kind, -1)
    if strata.by == "key":
        ids = {key.id: places[key.name] for key in keys if key.name in places}
        return lambda _kind, key, _body, _said: ids.get(key, others)
    values = {value.encode(): place for value, place in places.items()}
    return lambda _kind, _key, _body, said: values.get((said or b"").strip(), others)
