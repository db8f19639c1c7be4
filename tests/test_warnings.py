"""Warnings are errors, except where an error would do worse."""

from __future__ import annotations

import warnings

import pytest


def test_a_warning_is_an_error() -> None:
    with pytest.raises(ResourceWarning):
        warnings.warn("unclosed file <x>", ResourceWarning, stacklevel=1)


def test_what_uvloop_says_of_an_open_connection_is_none() -> None:
    """It would not close the connection then, and wait for ever until it is closed."""
    with warnings.catch_warnings(record=True) as said:
        warnings.warn("unclosed resource <TCPTransport>", ResourceWarning, stacklevel=1)
    assert len(said) == 1
