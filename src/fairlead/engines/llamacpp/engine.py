"""How a release of GGUF weights is launched as a llama.cpp replica."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import Release, WeightsModel
from fairlead.domain.replica import Launch
from fairlead.engines.llamacpp.settings import ENGINE, LlamaCppSettings
from fairlead.engines.settings import read_settings

COMPLETION_PROBE: tuple[str, dict[str, Any]] = (
    "/v1/completions",
    {"prompt": "ok", "max_tokens": 1, "temperature": 0},
)
EMBEDDING_PROBE: tuple[str, dict[str, Any]] = ("/v1/embeddings", {"input": "ok"})

# glibc gives each thread a heap of its own; a replica's many HTTP threads need no more than two.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


class LlamaCpp:
    """Runs one process per replica."""

    kind = ENGINE

    def check(self, release: Release) -> None:
        """Raises `InvalidInput` when llama.cpp cannot run this release."""
        read_settings(LlamaCppSettings, release.engine.settings, ENGINE)
        if not isinstance(release.model, WeightsModel):
            raise InvalidInput(
                f"engine {ENGINE} runs weights, but the release names a remote model",
                hint="Use the engine `remote` for it.",
            )
        if release.model.format != "gguf":
            raise InvalidInput(
                f"engine {ENGINE} reads gguf, but the weights are {release.model.format}",
                hint="Convert them with llama.cpp's convert_hf_to_gguf.",
            )

    def launch(self, release: Release, weights: Sequence[Path]) -> Launch:
        """Raises `InvalidInput` as `check` does, and when there are no weight files."""
        self.check(release)
        if not weights:
            raise InvalidInput(f"engine {ENGINE}: the release has no weight file")
        settings = read_settings(LlamaCppSettings, release.engine.settings, ENGINE)
        probe_path, probe_body = EMBEDDING_PROBE if settings.embeddings else COMPLETION_PROBE
        return Launch(
            argv=_argv(weights[0], _alias(release), settings),
            env=ENVIRONMENT,
            probe_path=probe_path,
            probe_body=probe_body,
            slots=settings.slots,
        )


def _alias(release: Release) -> str:
    """What answers say in `model`: the file's own name, not where it lies on this machine."""
    if isinstance(release.model, WeightsModel) and release.model.files:
        return Path(release.model.files[0].name).stem
    return ENGINE


def _argv(model: Path, alias: str, settings: LlamaCppSettings) -> tuple[str, ...]:
    return (
        sys.executable,
        "-P",
        "-m",
        "fairlead.engines.llamacpp",
        "--model",
        str(model.absolute()),
        "--alias",
        alias,
        "--settings",
        json.dumps(dataclasses.asdict(settings), sort_keys=True),
        "--ready-file",
        "{ready_file}",
        "--parent",
        "{supervisor_pid}",
    )
