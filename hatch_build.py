"""Compiles the request path of the gateway into the wheel, where `FAIRLEAD_COMPILE` is 1.

mypyc makes C of the modules that `pyproject.toml` lists. Their sources stay beside them in the
wheel; Python takes the compiled ones. Without the variable the wheel is pure, and nothing of this
is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "FAIRLEAD_COMPILE"
GROUP = "fairlead_gateway"
"""mypyc puts all code into one library, `fairlead_gateway__mypyc`, which the modules share."""
_TYPES = ("httptools", "msgspec")
"""Of the project's dependencies, those whose types the modules need to be compiled well."""
_SETTINGS = "[mypy]\nignore_missing_imports = True\n"


class CompileHook(BuildHookInterface[Any]):
    """See the head of this file."""

    def dependencies(self) -> list[str]:
        if not self._is_on:
            return []
        needed = self.metadata.core.dependencies
        types = [line for line in needed if line.startswith(_TYPES)]
        return [self.config["compiler"], "setuptools>=77", *types]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._is_on or version == "editable":
            return
        # Removed when this object is.
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-compile-")
        root = Path(self._folder.name)
        sources = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(Path(self.root, "src", "fairlead"), root / "fairlead", ignore=sources)
        (root / "mypy.ini").write_text(_SETTINGS, encoding="utf-8")
        paths = [f"fairlead/{name}" for name in self.config["modules"]]
        done = subprocess.run([sys.executable, __file__, *paths], cwd=root, check=False)
        libraries = [*root.glob("*.so"), *(root / "fairlead").rglob("*.so")]
        if done.returncode or len(libraries) != len(paths) + 1:
            raise SystemExit(
                "The gateway cannot be compiled; the reason is above. It takes a C compiler and "
                f"Python's headers. Without {VARIABLE}=1 the same package is built uncompiled."
            )
        for library in libraries:
            build_data["force_include"][str(library)] = str(library.relative_to(root))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    @property
    def _is_on(self) -> bool:
        return self.target_name == "wheel" and os.environ.get(VARIABLE) == "1"


def compile_here(paths: list[str]) -> None:
    """Put the libraries of these modules beside them; the package is below the present folder."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    options = ["--config-file=mypy.ini", *paths]
    modules = mypycify(options, group_name=GROUP, target_dir="build", debug_level="0")
    build = Distribution({"name": "fairlead", "ext_modules": modules}).get_command_obj("build_ext")
    build.inplace, build.parallel = True, True
    build.ensure_finalized()
    build.run()


if __name__ == "__main__":
    compile_here(sys.argv[1:])
