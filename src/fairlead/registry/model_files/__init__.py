"""Checks of model files before they are accepted.

Nothing here loads a model or unpacks an archive: headers are parsed with own, bounded code, and
formats that can run code when loaded (pickle and what holds it) are refused by name and content
instead of being scanned, since scanners miss malicious files.
"""

from __future__ import annotations

from fairlead.registry.model_files.accepting import ModelFormat, accept_file, check_name, format_of
from fairlead.registry.model_files.facts import ModelFacts

__all__ = ["ModelFacts", "ModelFormat", "accept_file", "check_name", "format_of"]
