"""Where the public data sets are that some tests read: `FAIRLEAD_DATA`, or beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FAIRLEAD_DATA") or ROOT.parent / "shared" / "data").absolute()
BANKING77 = DATA / "banking77"

needs_banking77 = pytest.mark.skipif(
    not BANKING77.is_dir(), reason=f"the Banking77 data set is not in {DATA}"
)
