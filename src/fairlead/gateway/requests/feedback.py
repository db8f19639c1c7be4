"""Feedback: what a client says of an answer, acknowledged once it is in the spool."""

from __future__ import annotations

import math
import os
import re

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.gateway.errors import UNKNOWN_REQUEST, Refusal, invalid_body
from fairlead.gateway.front.request_id import RequestIds
from fairlead.gateway.requests.call import Client
from fairlead.gateway.requests.plant import Plant
from fairlead.wire.record import FeedbackRecord

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/feedback`.

    Attributes:
        request_id: The `x-request-id` of the answer it is about.
        name: What is measured.
        value: A number; `true` is 1 and `false` is 0.
    """

    request_id: str
    value: bool | float
    name: str = "success"


_decoder = msgspec.json.Decoder(Feedback)


def read_feedback(body: bytes) -> Feedback | Refusal:
    """Decode and check; a refusal says what is wrong."""
    try:
        feedback = decode_with(_decoder, body)
    except msgspec.ValidationError as error:
        return invalid_body(f"The feedback does not fit: {error}.")
    except msgspec.DecodeError as error:
        return invalid_body(f"The body is not valid JSON: {error}.")
    if _NAME.fullmatch(feedback.name) is None:
        return invalid_body(
            "`name` is a letter followed by at most 63 letters, digits, `_`, `.` or `-`.", "name"
        )
    if feedback.name in (JUDGED, UNJUDGED):
        return invalid_body(
            f"`{feedback.name}` is what a judge model says; clients give another name.", "name"
        )
    if not math.isfinite(feedback.value):
        return invalid_body("`value` is not finite.", "value")
    return feedback


def take_feedback(
    plant: Plant, client: Client, ids: RequestIds, key_id: str, body: bytes
) -> Refusal | None:
    """Record feedback for a request of the same key, and answer 202 after that."""
    feedback = read_feedback(body)
    if isinstance(feedback, Refusal):
        return feedback
    if not ids.is_of(feedback.request_id, key_id):
        return UNKNOWN_REQUEST
    feedback_id = f"fb_{os.urandom(12).hex()}"
    token = object()
    record = FeedbackRecord(
        id=feedback_id,
        request=feedback.request_id,
        key=key_id,
        name=feedback.name,
        value=float(feedback.value),
        at=plant.recorder.opened(token),
    )
    answer = msgspec.json.encode({"id": feedback_id})
    plant.recorder.finish(
        token, record, lambda: client.answer(202, b"application/json", answer, b"")
    )
    plant.metrics.feedback.inc((feedback.name,))
    return None
