"""What every monitor is given, and what it says.

A monitor is about one release of one service. It sees each request that the release answered once,
in the order in which they began, and what came of it later (feedback, texts of the sample) as far
as it is known. It learns from the release's own first requests, with which it was accepted, and
then says what has changed. It reads no clock: `now` is given. What it has to remember is a document
of JSON's types, from which another of the same kind goes on with identical results.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from fairlead.domain.recorded import RecordedRequest
from fairlead.monitoring.conditions import Condition

Document = dict[str, Any]
"""What a monitor remembers, in JSON's types."""


class Seen(NamedTuple):
    """A request with what is known of it besides.

    Attributes:
        open: Requests that its replica had open when it came.
        load: Requests that came to its replica in the ten seconds before it.
        failed: Whether the server failed it (`fairlead.domain.outcomes`).
    """

    request: RecordedRequest
    open: float
    load: float
    failed: bool


class SeenText(NamedTuple):
    """What was asked and answered in one request of the sample, redacted as it was kept.

    Attributes:
        prompt: The last thing that a person said; empty if it is not kept.
        answer: Empty if it is not kept.
        is_cut: Whether one of them is longer than what was kept.
    """

    request: RecordedRequest
    prompt: str
    answer: str
    is_cut: bool


class SeenFeedback(NamedTuple):
    """What was said of an answer: by a client, or by a judge model.

    Attributes:
        rollout: Whose judge model gave it; empty for live traffic's, and for what clients said.
    """

    request: RecordedRequest
    name: str
    value: float
    at: float
    rollout: str = ""


class Monitor(Protocol):
    """One monitor of one release.

    Attributes:
        name: Value of the label `monitor` of what it says.
    """

    name: str

    def see(self, seen: Seen) -> None:
        """A request, each once, in the order (started_at, id)."""
        ...

    def see_text(self, text: SeenText) -> None:
        """Texts of a request of the sample, each once, in the order in which they were asked."""
        ...

    def see_feedback(self, feedback: SeenFeedback) -> None:
        """Feedback on a request, each once."""
        ...

    def conditions(self, now: float) -> list[Condition]:
        """What is wrong now; again and again for as long as it is."""
        ...

    def standing(self) -> str:
        """How far it is, in a few words: `learning, 120 of 500 requests`, `watching`."""
        ...

    def accept(self) -> None:
        """A person says that what it tells now is as it should be.

        It tells that no more; what it has to learn anew for that, it does.
        """
        ...

    def state(self) -> Document:
        """Everything that `restore` needs."""
        ...

    def restore(self, state: Document) -> None:
        """Go on from a state of a monitor made with the same arguments.

        Raises ValueError, and changes nothing, if it is damaged or of another kind.
        """
        ...

    def self_test(self) -> str:
        """Find a fault in data made for it, in a monitor of its own; empty if it was found.

        And find none in honest data. Takes less than a second.
        """
        ...


class SuggestedCase(msgspec.Struct, frozen=True):
    """A case that a suite could have: what was asked, and nothing yet of what is expected.

    Attributes:
        request: Id of the request that asked it.
        tags: Why it is suggested.
        topic: Words that set its cluster apart.
    """

    request: str
    text: str
    tags: tuple[str, ...]
    topic: str = ""


@runtime_checkable
class Inherits(Protocol):
    """A monitor that goes on with what the release before it has shown of its service's users."""

    def inherit(self, state: Document) -> None:
        """Take over what is not about the release; raises ValueError for a state that is none."""
        ...


@runtime_checkable
class KeepsTexts(Protocol):
    """A monitor that keeps texts of the sample for a while."""

    def kept_requests(self) -> set[str]:
        """Ids of the requests whose texts it keeps."""
        ...

    def forget(self, ids: Collection[str]) -> None:
        """Drop the texts of these requests: their sample was deleted."""
        ...

    def suggested_cases(self) -> list[SuggestedCase]:
        """What a suite lacks, by what has changed; none while nothing has."""
        ...


@runtime_checkable
class GoesByVectors(Protocol):
    """A monitor that compares vectors of texts."""

    @property
    def vectors(self) -> str:
        """Name of the embedder that it goes by (`fairlead.embedding.kinds`)."""
        ...


@runtime_checkable
class MayBeBlind(Protocol):
    """A monitor that needs something of others to see, which may not be there for a while."""

    @property
    def blindness(self) -> str:
        """Why it does not see now; empty while it does."""
        ...


class Deaf:
    """For monitors that need not see everything: sees nothing."""

    def see(self, seen: Seen) -> None:
        """Nothing of it is of interest."""

    def see_text(self, text: SeenText) -> None:
        """Nothing of it is of interest."""

    def see_feedback(self, feedback: SeenFeedback) -> None:
        """Nothing of it is of interest."""
