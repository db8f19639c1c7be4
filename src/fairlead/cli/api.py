"""The command line's client of the control API."""

from __future__ import annotations

import http.client
import json
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from fairlead.app.state import StatePaths
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import (
    Conflict,
    Damaged,
    FairleadError,
    InvalidInput,
    NotFound,
    StorageFailed,
    Unauthorized,
    Unavailable,
)

T = TypeVar("T")
TIMEOUT_S = 30.0

_BY_CODE: dict[str, type[FairleadError]] = {
    kind.code: kind
    for kind in (
        Conflict,
        Damaged,
        InvalidInput,
        NotFound,
        StorageFailed,
        Unauthorized,
        Unavailable,
    )
}


class _Problem(msgspec.Struct):
    code: str
    message: str
    hint: str | None = None


class ControlClient:
    """Calls control's REST API; its errors come back as members of `fairlead.domain.errors`."""

    def __init__(self, url: str, token: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._token = token

    @staticmethod
    def of(paths: StatePaths) -> ControlClient:
        """The client for the installation that runs on a state folder; raises Unavailable."""
        return ControlClient(paths.require_up().control_url, paths.read_token())

    def get(self, kind: type[T], *path: str, **query: str | int | float | None) -> T:
        """GET `/api/v1/<path>` as `kind`."""
        return self._decode(kind, self._call("GET", path, query, None))

    def post(
        self, kind: type[T], *path: str, body: Any = None, **query: str | int | float | None
    ) -> T:
        """POST `/api/v1/<path>` as `kind`."""
        return self._decode(kind, self._call("POST", path, query, msgspec.json.encode(body or {})))

    def put(self, kind: type[T], *path: str, body: Any) -> T:
        """PUT `/api/v1/<path>` as `kind`."""
        return self._decode(kind, self._call("PUT", path, {}, msgspec.json.encode(body)))

    def delete(self, kind: type[T], *path: str, **query: str | int | float | None) -> T:
        """DELETE `/api/v1/<path>` as `kind`."""
        return self._decode(kind, self._call("DELETE", path, query, None))

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, str | int | float | None],
        body: bytes | None,
    ) -> bytes:
        if not all(path):
            raise InvalidInput(
                "an empty text names nothing", hint="is a variable of your shell empty?"
            )
        target = "/api/v1/" + "/".join(quote(part, safe="") for part in path)
        given = {name: value for name, value in query.items() if value is not None}
        if given:
            target += "?" + urlencode(given)
        connection = http.client.HTTPConnection(self._netloc, timeout=TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"control at {self._netloc} does not answer: {error or type(error).__name__}",
                hint="if `fairlead up` runs, it starts control again by itself; try once more",
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _problem(response.status, data)
        return data

    @staticmethod
    def _decode(kind: type[T], data: bytes) -> T:
        try:
            return decode_json(data, kind)
        except msgspec.MsgspecError as error:
            raise Unavailable(
                f"control's answer cannot be read: {error}",
                hint="do the command line and the running `fairlead up` have the same version?",
            ) from None


def _problem(status: int, data: bytes) -> FairleadError:
    try:
        problem = decode_json(data, _Problem)
    except msgspec.MsgspecError:
        return Unavailable(f"control answered {status}: {data[:200].decode(errors='replace')}")
    return _BY_CODE.get(problem.code, FairleadError)(problem.message, hint=problem.hint)


def error_of_status(status: int, message: str) -> FairleadError:
    """The error of the family that an HTTP status stands for, for answers without its code."""
    if status == StorageFailed.http_status:
        return StorageFailed(message)
    if status >= 500 or status == 429:
        return Unavailable(message, hint="try once more; `fairlead status` shows what runs")
    for kind in (Unauthorized, NotFound, Conflict):
        if status == kind.http_status:
            return kind(message)
    return InvalidInput(message)


def as_json(value: object) -> str:
    """Readable JSON of any API value."""
    return json.dumps(msgspec.to_builtins(value), indent=2)
