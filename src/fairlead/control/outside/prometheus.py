"""Asks a Prometheus. What it answers comes out as numbers; what goes wrong, in words.

Only the address that the plan declares is asked, redirects are not followed, and a name that leads
to an address at which a cloud keeps its secrets is refused (`fairlead.domain.outbound`). The token
is read for each question, from where the plan says it is; no text that leaves here has it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.outbound import Outbound
from fairlead.domain.variables import variable_problem
from fairlead.rollout.prometheus import PLACEHOLDER, Prometheus
from fairlead.targets.http import HttpFailed, request

SAID_CHARS_MAX = 300
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-./[]|")


class NoAnswer(Exception):
    """Prometheus did not answer a question, in words that a person may read."""


class Series(msgspec.Struct, frozen=True):
    """A series: its labels, and its samples as Unix time and value."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


class _Found(msgspec.Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


def rendered(query: str, values: Mapping[str, str]) -> str:
    """The query with its placeholders filled in; raises NoAnswer for one that cannot be."""
    for name, value in values.items():
        if not set(value) <= _SAFE:
            raise NoAnswer(f"the placeholder {name} has a character that no query may hold")
    return PLACEHOLDER.sub(lambda match: values[match[1]], query)


def alternatives(names: Sequence[str]) -> str:
    """A regular expression (for `=~`) that matches these names and nothing else."""
    return "|".join(name.replace(".", "[.]") for name in sorted(names)) or "no-replica"


class Reader:
    """Asks one Prometheus.

    Args:
        asked: Where it is, and how it is reached.
    """

    def __init__(self, asked: Prometheus) -> None:
        self._asked = asked

    async def instant(self, query: str, at: float) -> list[float]:
        """The values of an instant query at a Unix time, one for each series."""
        kind, result = await self._query(query, at)
        try:
            if kind in ("scalar", "string"):
                return [float(decode_json(result, tuple[float, str])[1])]
            if kind == "vector":
                found = decode_json(result, list[_Found])
                return [float(one.value[1]) for one in found if one.value is not None]
        except (msgspec.DecodeError, ValueError):
            raise NoAnswer("its answer holds no numbers (a histogram?)") from None
        raise NoAnswer(
            "the query gives ranges of samples; a guard needs one number for each series"
        )

    async def samples(self, selector: str, at: float, seconds: int) -> list[Series]:
        """The raw samples of a selector in the seconds before `at`, in their order."""
        kind, result = await self._query(f"{selector}[{seconds}s]", at)
        if kind != "matrix":
            raise NoAnswer("the query is no selector of counters")
        try:
            found = decode_json(result, list[_Found])
            return [Series(one.metric, tuple(_finite(one.values))) for one in found]
        except (msgspec.DecodeError, ValueError):
            raise NoAnswer("its answer holds no numbers (a histogram?)") from None

    async def _query(self, query: str, at: float) -> tuple[str, msgspec.Raw]:
        token = self._token()
        parameters = urlencode(
            {"query": query, "time": f"{at:.3f}", "timeout": f"{self._asked.timeout_s:g}s"}
        )
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await request(
                f"{self._asked.url.rstrip('/')}/api/v1/query?{parameters}",
                body=None,
                headers=headers,
                timeout_s=self._asked.timeout_s,
                outbound=Outbound(ca_file=self._asked.ca_file, link_local=self._asked.link_local),
            )
        except HttpFailed as error:
            raise NoAnswer(_line(str(error), token)) from None
        try:
            said = decode_json(answer.body, _Answer)
        except msgspec.DecodeError:
            raise NoAnswer(f"it answered {answer.status}, and not as Prometheus does") from None
        if said.status != "success" or said.data is None or answer.status != 200:
            raise NoAnswer(f"it answered {answer.status}: {_line(said.error, token)}")
        return said.data.result_type, said.data.result

    def _token(self) -> str | None:
        """Raises NoAnswer when it is not where it should be."""
        if self._asked.token_env is not None:
            if problem := variable_problem(self._asked.token_env):
                raise NoAnswer(f"the environment variable {self._asked.token_env} {problem}")
            token = os.environ.get(self._asked.token_env, "").strip()
            where = f"the environment variable {self._asked.token_env}"
        elif self._asked.token_file is not None:
            where = self._asked.token_file
            try:
                token = Path(where).read_text().strip()
            except (OSError, UnicodeDecodeError):
                token = ""
        else:
            return None
        if not token or not token.isascii() or not token.isprintable():
            raise NoAnswer(f"there is no token in {where}")
        return token


def _finite(samples: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float]]:
    """Samples whose value is a count."""
    for when, text in samples:
        value = float(text)
        if 0.0 <= value < math.inf:
            yield when, value


def _line(text: str, token: str | None) -> str:
    """Text from outside, on one short line and without the token."""
    if token:
        text = text.replace(token, "[token]")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:SAID_CHARS_MAX]
