"""Asks judge models about samples of rollouts and of live traffic, and keeps what they say."""

from __future__ import annotations
