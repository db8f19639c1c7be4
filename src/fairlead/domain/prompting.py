"""How a release's prompt template and sampling defaults change a request.

The gateway applies this to live requests and the evaluation runner to a suite's cases, so that
what is evaluated is exactly what is served. The body is a plain JSON object of the OpenAI API.
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


def _messages(messages: list[Any], prompt: Prompt) -> list[Any]:
    changed = list(messages)
    if prompt.user is not None:
        for index in range(len(changed) - 1, -1, -1):
            message = changed[index]
            if isinstance(message, dict) and message.get("role") == "user":
                changed[index] = {**message, "content": _wrap(message.get("content"), prompt.user)}
                break
    has_system = any(
        isinstance(m, dict) and m.get("role") in ("system", "developer") for m in changed
    )
    if prompt.system is not None and not has_system:
        changed.insert(0, {"role": "system", "content": prompt.system})
    return changed


def _wrap(content: Any, template: str) -> Any:
    """Wrap the text of a message: a string, or the parts of type `text` joined around the rest."""
    if isinstance(content, str):
        return template.replace(INPUT_SLOT, content)
    if isinstance(content, list):
        before, _, after = template.partition(INPUT_SLOT)
        return [{"type": "text", "text": before}, *content, {"type": "text", "text": after}]
    return content
