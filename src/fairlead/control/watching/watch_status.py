"""What the status of the installation says of alerts and incidents."""

from __future__ import annotations

import msgspec

from fairlead.control.views import StatusView
from fairlead.control.watching.interface import Watched
from fairlead.control.watching.watch_views import alert_views, gravest
from fairlead.monitoring.burning import Severity

GRAVEST_MAX = 3


def watched_status(status: StatusView, watched: Watched, now: float) -> StatusView:
    """The status with what fires and goes on; what is for information only does not count."""
    desk = watched.desk
    firing = [
        alert
        for alert in gravest(desk.alerts.values())
        if alert.is_firing and alert.severity is not Severity.INFO
    ]
    return msgspec.structs.replace(
        status,
        alerts=len(firing),
        incidents=sum(incident.is_open for incident in desk.incidents),
        gravest=alert_views(firing[:GRAVEST_MAX], desk, now),
        watching_age_s=round(watched.age_s, 3),
        watching_trouble=watched.trouble,
    )
