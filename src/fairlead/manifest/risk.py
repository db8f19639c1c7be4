"""The manifest's `rollout.risk`: by what requests are told apart that fail more or less often."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from fairlead.manifest.values import Strict, wrong

VALUES_MAX = 30
VALUE_CHARS_MAX = 64
_OURS = ("others", "unknown")
_SENT = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Risk(Strict):
    """Strata of risk. What tells them apart is known before a request is assigned."""

    by: Literal["size", "tools", "endpoint", "key", "header"] = Field(
        description=(
            "size: bytes of the request, the conversation before it included, in classes by "
            "factors of four. tools: whether it brings tools. endpoint: which API it calls. key: "
            "the API key. header: what the client says in `x-fairlead-risk`."
        )
    )
    values: tuple[str, ...] = Field(
        default=(),
        strict=False,
        max_length=VALUES_MAX,
        description=(
            "With by: key, names of keys; with by: header, values of the header. Each is a "
            "stratum, and all others together are one."
        ),
    )

    @model_validator(mode="after")
    def _values_fit(self) -> Risk:
        if self.by not in ("key", "header"):
            if self.values:
                raise wrong(f"are for by: key and by: header, not {self.by}", at=("values",))
            return self
        if not self.values:
            raise wrong(f"needs values with by: {self.by}")
        for place, value in enumerate(self.values):
            if not 0 < len(value) <= VALUE_CHARS_MAX:
                raise wrong(f"must have 1 to {VALUE_CHARS_MAX} characters", at=("values", place))
            if self.by == "header" and _SENT.fullmatch(value) is None:
                raise wrong("must be printable ASCII: it is sent in a header", at=("values", place))
            if value in self.values[:place]:
                raise wrong("is there twice", at=("values", place))
            if value in _OURS:
                raise wrong("is the name of another stratum", at=("values", place))
        return self
