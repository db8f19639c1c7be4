"""From what a gateway file says of metrics to what its workers go by."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.domain.errors import InvalidInput
from fairlead.domain.variables import value_of
from fairlead.gateway.front.scrapers import MetricsAccess, access_of
from fairlead.manifest.gateway_file.scraping import Metrics

TOKEN_CHARS_MIN = 16
TOKEN_BYTES_MAX = 512


def metrics_access(declared: Metrics, environ: Mapping[str, str]) -> MetricsAccess:
    """Who may read metrics; raises InvalidInput where there is no usable token."""
    if declared.token_file is not None:
        where = f"the file {declared.token_file}"
        try:
            with declared.token_file.open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX + 1).decode("ascii", "replace")
        except OSError as error:
            raise InvalidInput(f"metrics.token_file: {where}: {error.strerror}") from None
        at = "metrics.token_file"
    elif declared.token_env is not None:
        where, at = f"the environment variable {declared.token_env}", "metrics.token_env"
        token = value_of(declared.token_env, environ)
    else:
        return access_of(declared.access, "")
    token = token.strip()
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if not is_plain or not TOKEN_CHARS_MIN <= len(token) <= TOKEN_BYTES_MAX:
        raise InvalidInput(
            f"{at}: there is no usable token in {where}",
            hint=f"it needs {TOKEN_CHARS_MIN} to {TOKEN_BYTES_MAX} characters without spaces, such "
            "as `openssl rand -hex 32` makes",
        )
    return access_of(declared.access, token)
