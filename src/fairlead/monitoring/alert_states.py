"""The state machine of an alert: pending, firing, resolved.

Rules
- `observe` is a pure function of the stored alerts, what the monitors find now, and `now`. Called
  again with the same facts it returns the same alerts: a controller that died in between goes on.
- A condition is what a monitor finds; an alert is its history. Both have the labels and so the
  fingerprint in common; another severity or other evidence is no other alert.
- A condition has to hold for its `pending_s` before the alert fires. One that goes away before has
  never been an alert, and is forgotten.
- Only a monitor that has looked can end an alert. While it is blind its alerts stay what they are;
  what it should have said is an alert of its own (`watchers`). A monitor that has not looked for a
  day (`GONE_S`) is taken to be gone, and its alerts end saying so.
- A firing alert goes on until its condition has been away for `keep_s`. Each return soon after it
  was resolved (`FLAP_S`) doubles that time, up to `KEEP_S_MAX`: what flaps is one alert that goes
  on, and not many.
- A resolved alert stays for `FORGET_S`, so that its end can be told, and a return is known as one.
- Only what `TRANSITIONS` lists can happen; anything else raises with the alert's history.
"""

from __future__ import annotations

import enum


class AlertState(enum.StrEnum):
    """Where an alert is."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


TRANSITIONS: dict[AlertState, dict[AlertState, str]] = {
    AlertState.PENDING: {AlertState.FIRING: "its condition has held for long enough"},
    AlertState.FIRING: {
        AlertState.RESOLVED: "its condition has been away for long enough, or its monitor is gone"
    },
    AlertState.RESOLVED: {AlertState.FIRING: "its condition is back"},
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {AlertState.PENDING}"]
    for origin, targets in TRANSITIONS.items():
        lines += [f"    {origin} --> {to}: {why}" for to, why in targets.items()]
    lines += [
        f"    {AlertState.PENDING} --> [*]: its condition is away",
        f"    {AlertState.RESOLVED} --> [*]: after an hour",
    ]
    return "\n".join(lines) + "\n"
