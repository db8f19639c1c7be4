"""Watches the live services: monitors over their records, alerts, incidents, and what is done."""
