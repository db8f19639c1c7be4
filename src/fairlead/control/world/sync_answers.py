"""What a gateway worker that asks for a newer snapshot gets, as HTTP."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from fairlead.wire.quota import GRANTS_TYPE, Grants
from fairlead.wire.snapshot import Snapshot, encode_snapshot


def sync_response(answer: Snapshot | Grants | None) -> Response:
    """A newer snapshot, or grants, or 204 when there is neither."""
    if answer is None:
        return Response(status_code=204)
    if isinstance(answer, Grants):
        return Response(msgspec.json.encode(answer), media_type=GRANTS_TYPE.decode())
    return Response(encode_snapshot(answer), media_type="application/json")
