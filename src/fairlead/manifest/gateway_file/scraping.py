"""Who may read a gateway's metrics, as its file says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fairlead.manifest.values import EnvName, FilePath, Strict, wrong


class Metrics(Strict):
    """Who may read `/metrics`: it says what services cost, and who has used how much."""

    access: Literal["local", "token", "open"] = Field(
        default="local",
        description=(
            "`local`: programs on this machine that ask for an address of this machine, not "
            "through a proxy, and who has the token; `token`: only who has it; `open`: everybody."
        ),
    )
    token_env: EnvName | None = Field(
        default=None,
        description="Environment variable with the token, which is sent as `Bearer`.",
    )
    token_file: FilePath | None = Field(
        default=None, description="File with the token, in place of `token_env`."
    )

    @model_validator(mode="after")
    def _has_what_it_asks_for(self) -> Metrics:
        if self.token_env is not None and self.token_file is not None:
            raise wrong("is one place too many: token_env is given too", at=("token_file",))
        has_token = self.token_env is not None or self.token_file is not None
        if self.access == "token" and not has_token:
            raise wrong("needs token_env or token_file", at=("access",))
        if self.access == "open" and has_token:
            raise wrong("asks for no token: leave token_env and token_file out", at=("access",))
        return self
