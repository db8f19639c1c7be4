"""Which variables of the environment go to others because a manifest or a release names them.

Whoever writes one says both the name of a variable and the host that gets its value. So that this
is no way to secrets of the installation, fairlead's own variables (`FAIRLEAD_...`) are given to
nobody, and those of receivers of alerts (`ALERT_...`) to receivers alone. Looked at when a manifest
is read, and again when the value is: a release may have been made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.domain.receivers import SECRETS

OWN = "FAIRLEAD_"
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"


def variable_problem(name: str) -> str:
    """Why a provider is not given this variable, as `must not ...`; empty if it may be."""
    if name.startswith(OWN):
        return (
            f"must not be one of {OWN}*: these are fairlead's own and are sent to nobody; put the "
            "secret into a variable of another name"
        )
    if name.startswith(SECRETS):
        return (
            f"must not be one of {SECRETS}*: these are for receivers of alerts alone; put the "
            "secret into a variable of another name"
        )
    return ""


def value_of(name: str | None, environ: Mapping[str, str]) -> str:
    """What a variable holds that is named so; empty where there is none, or it is not given."""
    if name is None or variable_problem(name):
        return ""
    return environ.get(name, "")


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """All that may be named."""
    return {name: value for name, value in environ.items() if not variable_problem(name)}
