"""What the parts of the REST API share: how calls are documented, read and answered."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response

from fairlead.control import views
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import InvalidInput

T = TypeVar("T")
BODY_BYTES_MAX = 1 << 20
REFERENCE = "#/components/schemas/{name}"
DOCUMENTED: list[type] = []
"""Types that some call takes or gives; their schemas are in the OpenAPI document."""


def documented(kind: Any) -> dict[str, Any]:
    """The reference to a type's schema; notes the type for the document's components."""
    if kind not in DOCUMENTED:
        DOCUMENTED.append(kind)
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    return schema


def gives(kind: Any) -> dict[int | str, dict[str, Any]]:
    """FastAPI's description of answers: this type, or a problem."""
    return gives_media("application/json", documented(kind))


def gives_media(media_type: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The same for an answer of any media type."""
    problem = {"application/json": {"schema": documented(views.ErrorBody)}}
    return {
        200: {"description": "OK", "content": {media_type: {"schema": schema}}},
        "4XX": {"description": "What was wrong with the request", "content": problem},
        "5XX": {"description": "What went wrong", "content": problem},
    }


def takes(kind: Any) -> dict[str, Any]:
    """OpenAPI's description of the body."""
    content = {"application/json": {"schema": documented(kind)}}
    return {"requestBody": {"required": True, "content": content}}


def answer(value: object) -> Response:
    """An answer of 200 with this value as JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json")


async def body(request: Request, kind: type[T]) -> T:
    """Decode the body strictly; raises InvalidInput with the place of the mistake."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_BYTES_MAX:
            raise InvalidInput(f"the body is larger than {BODY_BYTES_MAX} bytes")
    try:
        return decode_json(bytes(data), kind)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"body: {error}") from None
