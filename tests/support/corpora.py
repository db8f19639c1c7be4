"""Corpora of hostile input, which others have put together; never copied into the project.

They are in the folder that FAIRLEAD_CORPORA says, or in ../shared/corpora. Without them the tests
on them are skipped; with FAIRLEAD_REQUIRE_CORPORA that is an error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("FAIRLEAD_CORPORA") or Path(__file__).parents[3] / "shared" / "corpora"
)
WHY = "no corpora here: set FAIRLEAD_CORPORA, or put them in ../shared/corpora"

if os.environ.get("FAIRLEAD_REQUIRE_CORPORA") and not FOLDER.is_dir():
    raise RuntimeError(WHY)

needs_corpora = pytest.mark.skipif(not FOLDER.is_dir(), reason=WHY)


def corpora() -> Path:
    """Their folder; skips the test where there is none."""
    if not FOLDER.is_dir():
        pytest.skip(WHY)
    return FOLDER


def smuggling() -> dict[str, str]:
    """Messages that HTTP implementations read in different ways, by name."""
    found: dict[str, str] = json.loads((corpora() / "http1_smuggling_cases.json").read_text())
    return found


def urls() -> list[str]:
    """URLs that a server must not be led by; none where there are no corpora."""
    return json.loads((FOLDER / "ssrf_urls.json").read_text()) if FOLDER.is_dir() else []


each_url = pytest.mark.parametrize(
    "url", [pytest.param(url, id=f"url-{number}") for number, url in enumerate(urls() or [""])]
)
"""For each of them; with `needs_corpora`."""
