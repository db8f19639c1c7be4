"""Asks a declared embedding model for vectors, beside everything that clients wait for.

It is called in the thread in which monitors look, and has an event loop of its own for each call.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.judging.asking import Seat
from fairlead.control.outside.ask import post_call
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Unavailable
from fairlead.embedding.interface import TextsRefused
from fairlead.monitoring.embedding_model import EmbeddingModel
from fairlead.targets.http import HttpFailed

CALL = "embeddings"
REFUSALS = frozenset((400, 413, 422, 500))
"""A model may answer so to a text that is too long for it; llama.cpp says 500 of some."""


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]


class VectorsAsker:
    """Asks one model, by turns at each of its servers.

    Args:
        seat: Where a service of this installation is asked; raises Unavailable.
    """

    def __init__(self, model: EmbeddingModel, seat: Callable[[str], Seat]) -> None:
        self._model = model
        self._seat = seat
        self._turn = itertools.count()
        of_service = f"{model.service}, which makes the vectors,"
        self._who = "the embedding model" if model.service is None else of_service

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text; raises Unavailable, and TextsRefused."""
        model, seat = self._model, self._seated()
        url = seat.base_urls[next(self._turn) % len(seat.base_urls)]
        body = {"model": seat.model, "input": list(texts)}
        try:
            answer = asyncio.run(
                post_call(url, CALL, body, seat.key, seat.outbound, model.timeout_s)
            )
        except HttpFailed as error:
            raise Unavailable(f"{self._who} does not answer: {error}") from None
        if answer.status in REFUSALS:
            raise TextsRefused(f"{self._who} answered {answer.status}", texts)
        if answer.status != 200:
            raise Unavailable(f"{self._who} answered {answer.status}")
        try:
            found = decode_json(answer.body, _Vectors).data
        except msgspec.DecodeError:
            raise Unavailable(f"{self._who} answered without vectors") from None
        return [one.embedding for one in sorted(found, key=lambda one: one.index)]

    def _seated(self) -> Seat:
        if self._model.provider is not None:
            return Seat.of_provider(self._model.provider)
        service = self._model.service or ""
        try:
            return self._seat(service)
        except Unavailable:
            raise Unavailable(f"no replica of {self._who} is ready") from None
