"""Asks judge models about the samples of rollouts, and keeps what they say."""

from __future__ import annotations
