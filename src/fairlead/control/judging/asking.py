"""One question to a judge model over HTTP, and what can come of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.control.outside.ask import post_chat, provider_key
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Unavailable
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.prompting import apply_release
from fairlead.domain.release import Prompt, Release, RemoteModel, SamplingValue
from fairlead.evaluation.judge_model import (
    Exchange,
    JudgeModel,
    Verdict,
    cost_usd,
    most_usd,
    question,
    read_verdict,
)
from fairlead.targets.http import HttpFailed

_NO_SCHEMA = frozenset({400, 404, 415, 422, 501})
"""What an engine may answer that does not know `response_format`."""
_OUTAGES = frozenset({401, 402, 403, 404, 408, 407, 425, 429})


class Seat(msgspec.Struct, frozen=True):
    """Where a judge is asked.

    Attributes:
        base_urls: Of servers that all answer alike; there is at least one.
        model: The name by which they know it.
    """

    base_urls: tuple[str, ...]
    model: str
    key: str | None = None
    outbound: Outbound = DIRECT
    prompt: Prompt = Prompt()
    sampling: Mapping[str, SamplingValue] = {}

    @classmethod
    def of_provider(cls, remote: RemoteModel) -> Seat:
        """A provider's model; raises Unavailable when its key is not to be found."""
        return cls(
            (remote.base_url,), remote.model, provider_key(remote), remote.outbound or DIRECT
        )

    @classmethod
    def of_release(cls, release: Release, base_urls: Sequence[str]) -> Seat:
        """Replicas of a release of this installation; raises Unavailable when there are none."""
        if not base_urls:
            raise Unavailable("no replica of the judge's service is ready")
        remote = release.model if isinstance(release.model, RemoteModel) else None
        return cls(
            tuple(base_urls),
            remote.model if remote else "judge",
            provider_key(remote) if remote else None,
            (remote.outbound or DIRECT) if remote else DIRECT,
            release.prompt,
            release.sampling,
        )


class Reply(msgspec.Struct, frozen=True):
    """What came of a question.

    Attributes:
        verdict: None when there is none, and `why` says why not.
        is_outage: The judge could not be asked at all, or says that it cannot serve now: nothing
            that this sample is to blame for.
        usd: What it has cost.
    """

    verdict: Verdict | None
    why: str = ""
    is_outage: bool = False
    usd: float = 0.0
    latency_ms: float = 0.0


class Asker:
    """Asks one judge, by turns at each of its servers.

    Args:
        seat: Where it is now; raises Unavailable while it is nowhere.
    """

    def __init__(self, judge: JudgeModel, seat: Callable[[], Seat]) -> None:
        self.judge = judge
        self._seat = seat
        self._turn = itertools.count()
        self._structured = True

    def most_usd(self, exchange: Exchange) -> float:
        """What asking about it can cost at the most."""
        return most_usd(self.judge, question(self.judge, exchange, structured=False))

    async def __call__(self, exchange: Exchange) -> Reply:
        """Ask; every failure is a reply as well."""
        started = time.monotonic()
        try:
            seat = self._seat()
            reply = await self._ask(seat, exchange, structured=self._structured)
            if reply is None:
                # Asked again at once, and never with a schema again.
                self._structured = False
                reply = await self._ask(seat, exchange, structured=False)
        except Unavailable as error:
            return Reply(None, error.message, is_outage=True)
        assert reply is not None
        latency_ms = (time.monotonic() - started) * 1e3
        return msgspec.structs.replace(reply, latency_ms=latency_ms)

    async def _ask(self, seat: Seat, exchange: Exchange, *, structured: bool) -> Reply | None:
        """The reply; None when the engine refuses the schema."""
        judge = self.judge
        asked = question(judge, exchange, structured=structured)
        body = apply_release(
            {"model": seat.model, **asked},
            prompt=seat.prompt,
            sampling=seat.sampling,
            upstream_model=None,
        )
        url = seat.base_urls[next(self._turn) % len(seat.base_urls)]
        try:
            answer = await post_chat(url, body, seat.key, seat.outbound, judge.timeout_s)
        except HttpFailed as error:
            # What was asked may have been answered, and cost something, all the same.
            usd = most_usd(judge, asked) if error.is_late else 0.0
            return Reply(None, f"judge: {error}", is_outage=not error.is_late, usd=usd)
        if answer.status != 200:
            if structured and answer.status in _NO_SCHEMA:
                return None
            is_outage = answer.status >= 500 or answer.status in _OUTAGES
            return Reply(None, f"the judge answered {answer.status}", is_outage=is_outage)
        return self._read(answer.body, asked)

    def _read(self, data: bytes, asked: Mapping[str, Any]) -> Reply:
        usd = most_usd(self.judge, asked)
        try:
            given = decode_json(data, _Completion)
        except msgspec.DecodeError:
            return Reply(None, "the judge's answer is no chat completion", usd=usd)
        if given.usage is not None:
            usd = cost_usd(
                self.judge.price, given.usage.prompt_tokens, given.usage.completion_tokens
            )
        text = given.choices[0].message.content if given.choices else None
        verdict = read_verdict(self.judge, text or "")
        # Not what it said instead: that may repeat what was asked.
        return Reply(verdict, "" if verdict else "the judge's answer holds no score", usd=usd)


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
