"""The few fields of a request that the gateway reads."""

from __future__ import annotations

import msgspec


class StreamOptions(msgspec.Struct, gc=False):
    """OpenAI's `stream_options`, as far as the gateway uses it."""

    include_usage: bool | None = None


class Fields(msgspec.Struct, gc=False):
    """What the gateway reads of a request."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def asks_usage(self) -> bool:
        """Whether the client wants the stream's usage event."""
        return self.stream_options is not None and self.stream_options.include_usage is True


decode_fields = msgspec.json.Decoder(Fields).decode
"""Raises msgspec.ValidationError where it does not fit, msgspec.DecodeError where it is no JSON."""
