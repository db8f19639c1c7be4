"""From the manifest's `bias` to what control goes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.cli.benchmark_files import Loaded
from fairlead.domain.errors import InvalidInput
from fairlead.probing.bias_model import Attribute, BiasSpec, Detail, Group, Segment, Template
from fairlead.probing.tracked_model import Published, ScoresSpec

if TYPE_CHECKING:
    from fairlead.manifest import Manifest

TEMPLATES_BYTES_MAX = 4 * 1024 * 1024


def bias_of(manifest: Manifest) -> BiasSpec | None:
    """How the champion is watched for bias; raises InvalidInput."""
    given = manifest.bias
    if given is None:
        return None
    templates = [Template(text) for text in given.templates]
    templates += [Template(each.text, each.expected) for each in given.known]
    if given.templates_file is not None:
        templates += _templates(given.templates_file)
    return BiasSpec(
        attributes=tuple(
            Attribute(name, tuple(Group(group, texts) for group, texts in groups.items()))
            for name, groups in given.attributes.items()
        ),
        templates=tuple(templates),
        details=tuple(Detail(name, texts) for name, texts in given.details.items()),
        builtin=given.builtin_names,
        outcomes=given.outcomes,
        interval_s=given.every_minutes * 60,
        pairs=given.pairs,
        alpha=given.alpha,
        max_tokens=given.max_tokens,
        usd_per_day=given.usd_per_day,
        timeout_s=given.timeout_seconds,
        segments=tuple(Segment(each.name, each.keys) for each in given.segments),
    )


def with_scores(
    bias: BiasSpec, manifest: Manifest, loaded: Sequence[Loaded], put: Callable[[bytes], str]
) -> BiasSpec:
    """With the benchmarks by which it is scored on a schedule.

    Args:
        put: Keeps a suite, and gives its digest.
    """
    given = None if manifest.bias is None else manifest.bias.scores
    if given is None:
        return bias
    benchmarks = tuple(
        Published(each.benchmark, missing=each.missing)
        if each.suite is None
        else Published(each.benchmark, put(each.suite.to_bytes()))
        for each in loaded
    )
    scores = ScoresSpec(
        benchmarks=benchmarks,
        interval_s=given.every_minutes * 60,
        per_run=given.per_run,
        worse_by=given.worse_by,
        usd_per_day=given.usd_per_day,
    )
    return msgspec.structs.replace(bias, scores=scores)


def _templates(path: Path) -> list[Template]:
    """One in each line; empty lines and those that begin with # are none."""
    try:
        with path.open("rb") as file:
            data = file.read(TEMPLATES_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    if len(data) > TEMPLATES_BYTES_MAX:
        raise InvalidInput(f"{path}: larger than {TEMPLATES_BYTES_MAX} bytes")
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    return [Template(line) for line in lines if line and not line.startswith("#")]
