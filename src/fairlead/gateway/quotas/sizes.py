"""What a client says of the size of the answer. A module of its own: structs are not compiled."""

from __future__ import annotations

import msgspec

from fairlead.domain.decoding import decode_with


class Sizes(msgspec.Struct):
    """Whatever it is: the engine judges it."""

    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    n: object = None


_decoder = msgspec.json.Decoder(Sizes)
_NOTHING = Sizes()


def sizes_of(body: bytes) -> Sizes:
    """What is said; nothing by what is not JSON."""
    try:
        return decode_with(_decoder, body)
    except msgspec.DecodeError:
        return _NOTHING
