from __future__ import annotations

from collections.abc import Iterator

import pytest

from control.notify.receiving import HttpReceiver


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()
