"""The log-likelihood of a text by an engine that says how likely each token of a prompt is.

Asked is a completion that echoes the prompt with log-probabilities, as vLLM and others of OpenAI's
older call give. An engine that does not (llama.cpp's server, chat models of providers) cannot be
asked: that is said, and nothing is guessed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fairlead.control.outside.ask import ReplicaClient
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Unavailable
from fairlead.evaluation.stereotypes import likelihood_of


class NoLikelihoods(Exception):
    """The engine gives no log-probabilities of prompts; says what to do."""


class Likelihood(NamedTuple):
    """How likely a text is, as a logarithm, and the tokens of it and of what was made after it."""

    log: float
    prompt_tokens: int
    completion_tokens: int


class _Logs(msgspec.Struct):
    token_logprobs: list[float | None]
    text_offset: list[int] = []


class _Choice(msgspec.Struct):
    text: str = ""
    logprobs: _Logs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_WHY = NoLikelihoods(
    "the engine gives no log-probabilities of what it is asked, so CrowS-Pairs cannot be scored: "
    "vLLM gives them (/v1/completions with echo and logprobs), llama.cpp's server does not"
)


async def log_likelihood(client: ReplicaClient, text: str) -> Likelihood:
    """Of the text, its first token left out (nothing stands before it).

    Raises Unavailable when there is no answer now, NoLikelihoods when there never is one.
    """
    body: dict[str, Any] = {
        "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0,
    }  # fmt: skip
    answer = await client.call("completions", body)
    if answer.status in (400, 404, 405, 415, 422, 501):
        raise _WHY
    if answer.status != 200:
        raise Unavailable(f"the replica answered {answer.status}")
    try:
        told = decode_json(answer.body, _Completion)
        (choice,) = told.choices
    except (msgspec.DecodeError, ValueError):
        raise Unavailable("the replica's answer is no completion") from None
    logs = choice.logprobs
    if logs is None or not choice.text.startswith(text):
        raise _WHY
    if len(logs.text_offset) != len(logs.token_logprobs):
        raise _WHY
    prompt = sum(offset < len(text) for offset in logs.text_offset)
    if told.usage is not None and 0 < (told.usage.prompt_tokens or 0) <= len(logs.text_offset):
        # Offsets go astray where a character is several tokens, each shown as a character.
        prompt = told.usage.prompt_tokens or 0
    own = [log for log in logs.token_logprobs[:prompt] if log is not None]
    try:
        return Likelihood(likelihood_of(own), prompt, len(logs.text_offset) - prompt)
    except ValueError:
        raise _WHY from None
