"""Monitors decide: promises, alerts, incidents and what is done about them. No I/O, no clock."""
