"""Drift detection on streams of real questions, beside other detectors."""
