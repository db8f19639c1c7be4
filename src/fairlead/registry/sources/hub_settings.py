"""How the Hugging Face Hub is reached; kept apart so that only a download loads an HTTP client."""

from __future__ import annotations

from dataclasses import dataclass

HUB_URL = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How the Hub is reached.

    Attributes:
        url: Base URL, without a slash at the end.
        timeout_s: Seconds to wait for the next byte.
        retry_waits_s: Seconds to wait before each attempt to go on with a broken download.
    """

    url: str = HUB_URL
    timeout_s: float = 30.0
    retry_waits_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
