"""Secrets that a test uses and then looks for, in everything that was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def bytes_below(*folders: Path) -> dict[str, bytes]:
    """Every file in these folders, by its path; one that vanishes meanwhile is left out."""
    found: dict[str, bytes] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file():
                    found[str(path)] = path.read_bytes()
            except OSError:
                continue
    return found


def processes(pids: Iterable[int]) -> dict[str, bytes]:
    """The command lines of these processes: every user of the machine can read them."""
    return {f"cmdline of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}


def hits(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Each secret with the place where it was found, in UTF-8 or UTF-16."""
    return [
        (secret, place)
        for secret in secrets
        for place, data in places.items()
        if any(secret.encode(coding) in data for coding in ("utf-8", "utf-16-le", "utf-16-be"))
    ]
