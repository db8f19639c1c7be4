"""The manifest's `rollout.risk`: by what requests are told apart that fail more or less often."""

from __future__ import annotations

from pydantic import Field, model_validator

from fairlead.domain.strata import VALUES_MAX, By, mistake
from fairlead.manifest.values import Strict, wrong


class Risk(Strict):
    """Strata of risk. What tells them apart is known before a request is assigned."""

    by: By = Field(
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
        found = mistake(self.by, self.values)
        if found is not None:
            place, words = found
            raise wrong(words, at=() if place is None else ("values", place))
        return self
