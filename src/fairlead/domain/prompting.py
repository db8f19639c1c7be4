"""How a release's prompt template and sampling defaults change a request.

The gateway applies this to live requests and the evaluation runner to a suite's cases, so that
what is evaluated is exactly what is served. The body is a plain JSON object of the OpenAI API; the
Responses API and Anthropic's Messages API have template and defaults under other names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.domain.release import Prompt, SamplingValue

INPUT_SLOT = "{input}"


def apply_release(
    body: Mapping[str, Any],
    *,
    prompt: Prompt,
    sampling: Mapping[str, SamplingValue],
    upstream_model: str | None,
) -> dict[str, Any]:
    """Return the body as the engine is to see it; the given body is left as it is.

    Sampling defaults fill in what the client did not send. `upstream_model`, when given, replaces
    the service name in `model`.
    """
    changed = {**{k: v for k, v in sampling.items() if v is not None}, **body}
    if upstream_model is not None:
        changed["model"] = upstream_model
    if isinstance(body.get("messages"), list):
        changed["messages"] = _messages(body["messages"], prompt)
    elif isinstance(body.get("prompt"), str) and prompt.user is not None:
        changed["prompt"] = prompt.user.replace(INPUT_SLOT, body["prompt"])
    return changed


def apply_to_responses(
    body: Mapping[str, Any],
    *,
    prompt: Prompt,
    sampling: Mapping[str, SamplingValue],
    upstream_model: str | None,
) -> dict[str, Any]:
    """The same for a body of the Responses API: `instructions` and `input`."""
    changed = {**_renamed(sampling, _IN_RESPONSES), **body}
    if upstream_model is not None:
        changed["model"] = upstream_model
    given = body.get("input")
    if prompt.user is not None and isinstance(given, str):
        changed["input"] = prompt.user.replace(INPUT_SLOT, given)
    elif prompt.user is not None and isinstance(given, list):
        changed["input"] = _last_wrapped(given, prompt.user, "input_text")
    has_system = isinstance(given, list) and _has_system(given)
    if prompt.system is not None and not has_system and body.get("instructions") is None:
        changed["instructions"] = prompt.system
    return changed


def apply_to_messages(
    body: Mapping[str, Any],
    *,
    prompt: Prompt,
    sampling: Mapping[str, SamplingValue],
    upstream_model: str | None,
) -> dict[str, Any]:
    """The same for a body of Anthropic's Messages API: `system` and `messages`."""
    changed = {**_renamed(sampling, _IN_MESSAGES), **body}
    if upstream_model is not None:
        changed["model"] = upstream_model
    if prompt.user is not None and isinstance(body.get("messages"), list):
        changed["messages"] = _last_wrapped(body["messages"], prompt.user, "text")
    if prompt.system is not None and body.get("system") is None:
        changed["system"] = prompt.system
    return changed


_IN_RESPONSES = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "stop": "",
    "response_format": "",
    "reasoning_effort": "",
}
_IN_MESSAGES = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format": "",
    "reasoning_effort": "",
}
"""Other names of sampling defaults; empty for what the API does not have in this form."""


def _renamed(
    sampling: Mapping[str, SamplingValue], names: Mapping[str, str]
) -> dict[str, SamplingValue]:
    found: dict[str, SamplingValue] = {}
    for given, value in sampling.items():
        name = names.get(given, given)
        if value is not None and name:
            found[name] = [value] if given == "stop" and isinstance(value, str) else value
    return found


def _last_wrapped(messages: list[Any], template: str, part: str) -> list[Any]:
    """The messages, the last one of the user wrapped (Anthropic's have tools' results as well)."""
    changed = list(messages)
    for index in range(len(changed) - 1, -1, -1):
        message = changed[index]
        if isinstance(message, dict) and message.get("role") == "user" and not _is_result(message):
            content = _wrap(message.get("content"), template, part)
            changed[index] = {**message, "content": content}
            break
    return changed


def _is_result(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )


def _has_system(messages: list[Any]) -> bool:
    return any(isinstance(m, dict) and m.get("role") in ("system", "developer") for m in messages)


def _messages(messages: list[Any], prompt: Prompt) -> list[Any]:
    changed = list(messages)
    if prompt.user is not None:
        changed = _last_wrapped(messages, prompt.user, "text")
    if prompt.system is not None and not _has_system(changed):
        changed.insert(0, {"role": "system", "content": prompt.system})
    return changed


def _wrap(content: Any, template: str, part: str) -> Any:
    """Wrap the text of a message: a string, or parts, which get one of this type on each side."""
    if isinstance(content, str):
        return template.replace(INPUT_SLOT, content)
    if isinstance(content, list):
        before, _, after = template.partition(INPUT_SLOT)
        return [{"type": part, "text": before}, *content, {"type": part, "text": after}]
    return content
