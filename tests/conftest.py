"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long a test takes says how busy the machine is, and nothing of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
