"""What `fairlead up` refuses to trace with, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.simulated_installation import Run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--otlp", "localhost:4318"), "OTLP endpoint"),
        (("--otlp", "http://169.254.169.254"), "OTLP endpoint"),
        (("--otlp", "http://127.0.0.1:4318", "--trace-share", "nan"), "--trace-share"),
    ],
)
def test_a_wrong_option_is_explained_and_nothing_is_made(
    run: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = run("up", "--state", tmp_path / "state", *options)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "state").exists()
