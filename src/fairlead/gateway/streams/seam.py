"""Where the second part of a stream is joined to the first. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.gateway.streams import events
from fairlead.gateway.streams.continuation import Rest
from fairlead.gateway.streams.sent import Sent

OTHER_TEXT = "other_text"
"""Why a stream ends that was to be said again and became another one."""

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[dict[str, Any]])


class Seam:
    """Rewrites the events of the second part so that they belong to the first.

    Attributes:
        is_other: What the client has was said again, and was not the same.
    """

    def __init__(self, sent: Sent, rest: Rest) -> None:
        self._same = dict(sent.same)
        self._has_role = sent.has_role
        self._prompt_tokens = sent.prompt_tokens
        self._rest = rest
        self._repeats = rest.repeats
        self._repeated = 0
        self.is_other = False

    def rewrite(self, event: bytes) -> bytes | None:
        """The event as the client is to see it, or None when it is not to see it."""
        data = events.payload(event)
        if not data or events.is_error(event) or b'"error"' in data[:64]:
            return event
        try:
            parts: dict[str, Any] = dict(_parts.decode(data))
            choices = _choices.decode(parts.get("choices", b"[]"))
        except msgspec.DecodeError:
            return event
        if choices:
            kept = [choice for choice in choices if self._keeps(choice)]
            if not kept or self.is_other:
                return None
            parts["choices"] = kept
        try:
            self._add_usage(parts)
        except msgspec.DecodeError:
            return event
        return b"data: %b\n\n" % msgspec.json.encode({**parts, **self._same})

    def _keeps(self, choice: dict[str, Any]) -> bool:
        """Change a choice to what is new in it; False when that is nothing."""
        delta = choice.get("delta")
        holder, name = (delta, "content") if isinstance(delta, dict) else (choice, "text")
        if holder is delta and self._has_role:
            holder.pop("role", None)
        text = holder.get(name)
        if isinstance(text, str) and text:
            text = "" if self._rest.ends_with is not None else self._new(text)
            if text or holder is not delta:
                holder[name] = text
            else:
                del holder[name]
        finish = choice.get("finish_reason")
        if self._rest.ends_with is not None:
            if finish is not None:
                choice["finish_reason"] = self._rest.ends_with
            return finish is not None and self._rest.ends_with != ""
        if finish is not None and self._rest.is_again and self._repeated < len(self._repeats):
            self.is_other = True
        others = [k for k, v in holder.items() if k != name and v] if holder is delta else []
        return bool(text or finish is not None or others)

    def _new(self, text: str) -> str:
        """Without what the client has already."""
        left = len(self._repeats) - self._repeated
        if not left:
            return text
        again = text[:left]
        if self._repeats.startswith(again, self._repeated):
            self._repeated += len(again)
            return text[len(again) :]
        if self._rest.is_again:
            self.is_other = True
            return ""
        # White space, of which the engine says less than it had.
        same = next(n for n, char in enumerate(again) if char != self._repeats[self._repeated + n])
        self._repeated = len(self._repeats)
        return text[same:]

    def _add_usage(self, parts: dict[str, Any]) -> None:
        usage = msgspec.json.decode(parts.get("usage", b"null"))
        if not isinstance(usage, dict):
            return
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            return
        said, read = self._rest.tokens, self._rest.read
        if self._rest.ends_with is not None:
            completion = 0
        first = self._prompt_tokens if self._prompt_tokens is not None else max(0, prompt - read)
        changed = {
            "prompt_tokens": first,
            "completion_tokens": said + completion,
            "total_tokens": first + said + completion,
        }
        parts["usage"] = {**usage, **changed}
