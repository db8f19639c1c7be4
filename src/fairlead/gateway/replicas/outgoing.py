"""The bytes that requests are sent as."""

from __future__ import annotations


def build_request(beginning: bytes, body: bytes, request_id: str, trace: str = "") -> bytes:
    """The whole request, from parsed fields alone; nothing is copied from the client's head.

    Args:
        beginning: From `beginning_of`.
        request_id: Empty for none.
        trace: A `traceparent`; it differs with each request, as the id does. Empty for none.
    """
    if trace:
        beginning += b"traceparent: %b\r\n" % trace.encode()
    if not request_id:
        return b"%bcontent-length: %d\r\n\r\n%b" % (beginning, len(body), body)
    line = request_id.encode()
    return b"%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % (
        beginning,
        len(body),
        line,
        body,
    )
