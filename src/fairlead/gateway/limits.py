"""Bounds that do not depend on a service. Those that do are in `wire.snapshot.Limits`."""

from __future__ import annotations

CONNECTIONS_MAX = 8192
"""Client connections of one worker. For one more, the oldest that has shown no key has to go."""
CONNECTIONS_PER_ADDRESS_MAX = 4096
"""The same for one address (of IPv6: one /64). Generous, as a proxy in front is one address."""
TLS_HANDSHAKE_S = 5.0
TLS_SHUTDOWN_S = 2.0
BUFFERED_BODY_BYTES_MAX = 256 * 1024 * 1024
"""Request bodies of one worker held at the same time; one more is answered 503."""
SHADOW_BODY_BYTES_MAX = 64 * 1024 * 1024
"""The same of copies for shadows, which are held when their clients have gone; more are dropped."""

URL_BYTES_MAX = 2048
HEADERS_MAX = 100
HEADER_BYTES_MAX = 32 * 1024
JSON_DEPTH_MAX = 64
JSON_MARKS_MAX = 500_000
"""Brackets, quotes and escapes of a request's JSON: they make it costly to look through."""
FIELDS_MAX = 256
"""Top-level fields of a request's JSON, where they have to be looked through."""
FEEDBACK_BYTES_MAX = 16 * 1024
CHUNK_OVERHEAD_BYTES_MAX = 4 * 1024
"""Wire bytes of a chunked body beyond twice its content, which is what chunks of five bytes need:
smaller ones take more time to be read than to be sent."""
CHUNKS_FEED_BYTES = 4 * 1024
"""So much of a chunked body is read at a time before it is looked at whether it may go on."""
FEED_BYTES = 64 * 1024
"""So much is read at a time before it is looked at whether it may go on."""

FIRST_REQUEST_S = 15.0
"""A connection that has shown no valid key may be silent this long."""
HEADER_S = 5.0
"""From a request's first byte to the end of its head."""
BODY_PART_S = 10.0
BODY_BYTES_PER_S_MIN = 16 * 1024
"""A body has `BODY_PART_S` seconds, and one more for each of these bytes that has come."""
KEEP_ALIVE_S = 75.0
"""One that has shown a key. Longer than what clients and proxies keep theirs open."""
CLIENT_STALL_S = 30.0
"""A client that reads nothing of its answer for so long is dropped."""
LINGER_S = 2.0
LINGER_BYTES_MAX = 16 * 1024 * 1024
"""After a refusal, what the client still sends is read and dropped so that it sees the refusal."""
WRITE_BUFFER_BYTES = 32 * 1024
"""Above this much unsent answer, reading from the replica stops."""
READ_BYTES = 16 * 1024
"""So much of an answer is read at once: what a client does not take is at most this much more."""

CONNECT_S = 5.0
UPSTREAM_IDLE_S = 4.0
"""An idle connection to a replica is used again for so long."""
UPSTREAM_HEADERS_MAX = 100
UPSTREAM_HEADER_BYTES_MAX = 64 * 1024
UPSTREAM_OVERHEAD_BYTES_MAX = 256 * 1024
"""Wire bytes of an answer beyond six times its content."""
INTERIM_ANSWERS_MAX = 10
PLAIN_BUFFER_BYTES = 1024 * 1024
"""A plain answer up to this size is held until it is complete, so that it can be retried."""
EVENT_BYTES_MAX = 1024 * 1024
SENT_BLOCK_BYTES = 8 * 1024
"""So much of a stream is kept as it was passed on, before it is packed."""
SENT_PACKED_BYTES_MAX = 512 * 1024
"""A stream that takes up more, packed, is not gone on with when it breaks."""
CONTINUED_TEXT_BYTES_MAX = 1024 * 1024
"""A stream with more text is not gone on with when it breaks."""
RECOUNT_BYTES_MAX = 8 * 1024 * 1024
"""Largest answer of an engine that is asked how many tokens a text has."""
DETACHED_S = 1.0
"""After a stream's `[DONE]`, its connection has this long to end the answer and be used again."""

KEY_FILE_BYTES_MAX = 16 * 1024
"""Largest file with a provider's key."""

EJECTION_S_MIN = 0.1
EJECTION_S_MAX = 2.0
"""A replica that fails is passed over for a time that doubles between these."""
PROBE_S = 1.0
"""A replica that comes back gets one request at a time until one succeeds. One that has not failed
for so long no longer holds up the next: a long answer is not a failure."""
OUTLIER_WINDOW_S = 10.0
OUTLIER_ATTEMPTS_MIN = 10
OUTLIER_FAILED_SHARE = 0.5
OUTLIER_BETTER_BY = 0.3
"""A replica is passed over, too, when in this time it failed more than this share of at least so
many attempts, and the others of its pool together a share that is less by so much."""
OUTLIER_EJECTION_S_MIN = 2.0
OUTLIER_EJECTION_S_MAX = 30.0

RETRY_SHARE = 0.2
"""Retries may add this share of load."""
RETRIES_SAVED_MAX = 100.0
RETRIES_QUIET_MIN = 3
RETRIES_QUIET_S = 60.0
"""So many retries (or a replica's slots, if more) grow back in this time without any request."""
BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 1.0
"""A replica that failed a request is asked again by it after a time that doubles between these."""

AGED_EVERY = 4
AGED_SHARE = 0.5
"""Every so many places, one goes to a request that has used up this share of its patience."""
DRAIN_MEMORY_S = 30.0
DRAIN_SEEN_MIN = 4
DRAIN_SPAN_S_MIN = 0.5
"""How fast a queue moves on is known when so many were seen, in no less than this time."""
SHED_TOLERANCE = 1.25
"""A request is refused early when its wait is estimated at this many times what it may wait."""
RETRY_AFTER_S_MAX = 3600

RECORD_BACKLOG_BYTES_MAX = 4 * 1024 * 1024
"""Records kept in memory while the spool cannot be written; beyond it the oldest are lost."""
SEGMENT_BYTES_MAX = 4 * 1024 * 1024
PROGRESS_EVERY_S = 0.5
SWEEP_EVERY_S = 0.25
METRICS_EVERY_S = 1.0
SERIES_MAX = 2000
"""Label combinations of one metric; further ones are counted together as `other`."""

SYNC_WAIT_S = 1.0
SYNC_DRAINING_WAIT_S = 0.25
REPORT_S = 5.0
"""So long a worker that takes over from another waits for control to know of it."""
LAST_REPORT_S = 1.0
"""So long a worker that ends waits for control to hear what it has used."""
SYNC_BACKOFF_S_MIN = 0.05
SYNC_BACKOFF_S_MAX = 1.0
SYNC_ANSWER_BYTES_MAX = 64 * 1024 * 1024

KNOWN_HEAD_BYTES_MAX = 4096
KNOWN_HEAD_MISSES_MAX = 16
"""A connection remembers a head up to this size, and gives up on it after so many others in a row;
see `fairlead.gateway.front.heads`."""
