"""What a provider is told by whom it is asked."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from fairlead.gateway.limits import KEY_FILE_BYTES_MAX
from fairlead.wire.snapshot import Endpoint

_log = logging.getLogger("fairlead.gateway")


def authorization_of(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """The provider's `Authorization`; read anew with each snapshot, so keys can be rotated."""
    key = ""
    if endpoint.api_key_env is not None:
        key = environ.get(endpoint.api_key_env, "")
    elif endpoint.api_key_file is not None:
        try:
            key = _read_key(endpoint.api_key_file)
        except (OSError, ValueError) as error:
            _log.warning("replica %s: its key file cannot be read: %s", endpoint.replica, error)
    else:
        return ""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        _log.warning("replica %s: there is no usable key for its provider", endpoint.replica)
        return ""
    return f"Bearer {key}"


def _read_key(path: str) -> str:
    """Raises OSError or ValueError. A pipe in the file's place must not stop the event loop."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(path, flags), "rb", buffering=0) as file:
        data = file.read(KEY_FILE_BYTES_MAX + 1) or b""
    if len(data) > KEY_FILE_BYTES_MAX:
        raise ValueError(f"it is larger than {KEY_FILE_BYTES_MAX} bytes")
    return data.decode("ascii")
