"""What monitors find to be the case: conditions, of which alerts are made."""

from __future__ import annotations

import hashlib
import math
import sys

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import short
from fairlead.monitoring.baseline import Baseline
from fairlead.monitoring.burning import Severity

LABELS_MAX = 16
LABEL_CHARS_MAX = 256
TEXT_CHARS_MAX = 1_000
EVIDENCE_MAX = 20
QUOTES_MAX = 6
QUOTE_CHARS_MAX = 500
GREATEST = sys.float_info.max

Labels = tuple[tuple[str, str], ...]
Looked = tuple[str, str]
"""A monitor and the service that it looks at, as in the labels; empty for no service."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of an alert's evidence, as a person reads it.

    Attributes:
        name: What it is, such as `burn rate over 1 h`.
        value: The number.
        unit: Behind it; empty for none.
        limit: What it is compared with, if it is.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def words(self) -> str:
        """`burn rate over 1 h: 20 (limit 14.4)`."""
        unit = f" {self.unit}" if self.unit else ""
        limit = "" if self.limit is None else f" (limit {readable(self.limit)}{unit})"
        return f"{self.name}: {readable(self.value)}{unit}{limit}"


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a monitor finds to be the case now.

    Attributes:
        labels: What it is about, by name: `monitor` and `service` always, others where they apply.
        pending_s: Seconds for which it has to hold before it is an alert.
        keep_s: Seconds for which it has to be away before the alert ends.
        runbook: Address of what to do; empty for none.
        quotes: What was asked or answered, where that tells what it is about. It is in no other
            field, and kept nowhere else than in the alert, while the condition holds.
        baseline: What it is held against, if that was learnt.
    """

    labels: Labels
    severity: Severity
    summary: str
    evidence: tuple[Figure, ...] = ()
    pending_s: float = 0.0
    keep_s: float = 300.0
    runbook: str = ""
    quotes: tuple[str, ...] = ()
    baseline: Baseline | None = None

    @property
    def monitor(self) -> str:
        """The monitor that found it."""
        return dict(self.labels).get("monitor", "")

    @property
    def seen_by(self) -> Looked:
        """The monitor that found it, and of which service."""
        return self.monitor, dict(self.labels).get("service", "")

    @property
    def fingerprint(self) -> str:
        """Names what it is about, and so its alert."""
        return fingerprint(self.labels)


def readable(value: float) -> str:
    """Four digits, and the whole number from 1,000 on."""
    if abs(value) == GREATEST:
        return "inf" if value > 0 else "-inf"
    return f"{value:,.0f}" if 1_000.0 <= abs(value) < 1e15 else f"{value:.4g}"


def labels_of(**labels: str) -> Labels:
    """Labels in the order that the fingerprint needs, those without a value left out.

    A release is named as in all metrics, by the first digits of its digest.
    """
    release = labels.get("release", "")
    if release.startswith("sha256:"):
        labels["release"] = short(release)
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def fingerprint(labels: Labels) -> str:
    """Sixteen hex digits that name the labels, whatever their order."""
    text = msgspec.json.encode(sorted(labels))
    return hashlib.sha256(text).hexdigest()[:16]


def check_condition(condition: Condition) -> None:
    """Raises InvalidInput unless it says what it is about, in bounds."""
    names = [name for name, _ in condition.labels]
    where = f"condition of monitor {condition.monitor!r}"
    if not condition.monitor or len(set(names)) != len(names) or len(names) > LABELS_MAX:
        raise InvalidInput(f"{where}: needs a label `monitor`, and each of {LABELS_MAX} once")
    if any(len(text) > LABEL_CHARS_MAX for pair in condition.labels for text in pair):
        raise InvalidInput(f"{where}: a label has more than {LABEL_CHARS_MAX} characters")
    if len(condition.summary) > TEXT_CHARS_MAX or len(condition.evidence) > EVIDENCE_MAX:
        raise InvalidInput(f"{where}: its summary or evidence is too long")
    if len(condition.quotes) > QUOTES_MAX or any(
        len(quote) > QUOTE_CHARS_MAX for quote in condition.quotes
    ):
        raise InvalidInput(f"{where}: it quotes too much")
    for seconds in (condition.pending_s, condition.keep_s):
        if not 0.0 <= seconds < math.inf:
            raise InvalidInput(f"{where}: {seconds} is no time to wait")
