"""Dashboards for Grafana, as code: one of a service, one of a rollout, one of the platform."""

from fairlead.monitoring.dashboards.building import Dashboard, as_json
from fairlead.monitoring.dashboards.platform import platform_dashboard
from fairlead.monitoring.dashboards.rollout import rollout_dashboard
from fairlead.monitoring.dashboards.service import service_dashboard

__all__ = ["Dashboard", "all_dashboards", "as_json"]


def all_dashboards() -> tuple[Dashboard, ...]:
    """Those that there are."""
    return (service_dashboard(), rollout_dashboard(), platform_dashboard())
