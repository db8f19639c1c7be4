"""Which other service answers for one that cannot. Pure.

Only the fallbacks that the asked service itself names are tried, in their order: those of a
fallback are not, so there are no cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairlead.wire.snapshot import ServiceRoute


def next_fallback(
    services: Mapping[str, ServiceRoute],
    asked: str,
    present: str,
    body_bytes: int,
    is_usable: Callable[[ServiceRoute], bool],
    *,
    may_return: bool = False,
) -> ServiceRoute | None:
    """The first fallback after the present one whose champion has a usable replica.

    Args:
        asked: The service that the client named.
        present: The one that is to answer until now: `asked` itself, or one of its fallbacks.
        body_bytes: Size of the request; a service that takes no such body is left out.
        may_return: None has failed the request yet, so each is as good as on the first day: the
            asked service too, when it is there again.
    """
    own = services.get(asked)
    if own is None or not own.fallbacks:
        return None
    names = own.fallbacks
    if may_return:
        names = (asked, *names)
    elif present in names:
        names = names[names.index(present) + 1 :]
    for name in names:
        service = services.get(name)
        if service is None or name == present or body_bytes > service.limits.body_bytes_max:
            continue
        if is_usable(service) and (may_return or name != asked):
            return service
    return None
