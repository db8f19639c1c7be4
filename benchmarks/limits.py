"""What limits cost a request, in microseconds of processor time: no sockets, one process."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

from fairlead.domain.quota import Price, Quota
from fairlead.gateway.errors import Refusal
from fairlead.gateway.quotas import quota_answers
from fairlead.gateway.quotas.quota import Hold, QuotaBook
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.request_body import read_fields
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.snapshot import KeyEntry, ReleaseRoute, ServiceRoute, Snapshot

AMOUNT = 10**12
KIND = "chat/completions"
BODY = b'{"model":"s","messages":[{"role":"user","content":"hello there"}],"max_tokens":20}'
ROUNDS, REPEATS = 20_000, 7


def request(quota: Quota) -> Callable[[], None]:
    """One request under these limits: admitted, its headers made, settled."""
    route = ReleaseRoute("d", "d", (), price=Price(0.1, 0.2))
    service = ServiceRoute("s", {"d": route}, "d")
    keys = (KeyEntry("k", "k", "a", quota=quota),)
    book = QuotaBook("seat", 0, sequence=0, hurry=lambda: None)
    fields = read_fields(BODY)
    assert not isinstance(fields, Refusal)
    assignment = Assignment("champion", "d", "u", 0.0, "", 0)
    call = Call("r", "k", KIND, BODY, fields, LiveService(service, {}), assignment)
    book.use(Snapshot(1, "00", keys=keys, services={"s": service}), time.time())

    def go() -> None:
        hold = quota_answers.take(book, call, time.time())
        if isinstance(hold, Hold):
            quota_answers.headers(hold.meters, time.time())
            hold.settle((1, 10, 10))

    return go


def main() -> None:
    """Print one line for each kind of key."""
    cases = {
        "no limit on this key": Quota(),
        "requests per minute": Quota(AMOUNT),
        "all five limits": Quota(AMOUNT, AMOUNT, AMOUNT, 1e5, 1e5),
    }
    for name, quota in cases.items():
        timer = timeit.Timer(request(quota), timer=time.process_time)
        best = min(timer.repeat(REPEATS, ROUNDS)) / ROUNDS
        print(f"{name:22} {best * 1e6:6.2f} us")


if __name__ == "__main__":
    main()
