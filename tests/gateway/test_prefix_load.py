"""The load of `benchmarks.prefix`, against something that is no gateway."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.prefix import CLIENTS, Load, tenants
from benchmarks.prefix_ways import Unanswered


class Failing:
    """Answers so many requests well, and then no more."""

    def __init__(self, well: int) -> None:
        self._lock = threading.Lock()
        self._left = well
        self.asked = 0

    def ask(self, body: dict[str, Any]) -> Any:
        with self._lock:
            self.asked += 1
            self._left -= 1
            if self._left < 0:
                raise Unanswered("answered 503")
        usage = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}
        return {"usage": usage, "choices": [{"message": {"content": "yes"}}]}

    def answered(self) -> Counter[str]:
        return Counter()


@pytest.mark.timeout(20)
def test_a_request_that_is_not_answered_ends_the_load_and_is_told() -> None:
    way = Failing(10)
    with pytest.raises(Unanswered, match="answered 503"):
        Load(way, tenants(8, random.Random(1)), seed=2).run()
    assert 10 < way.asked <= 10 + CLIENTS, "nobody goes on asking"


@pytest.mark.timeout(20)
def test_a_load_whose_requests_are_all_answered_asks_each_question_once() -> None:
    way = Failing(1000)
    load = Load(way, tenants(8, random.Random(1)), seed=2)
    load.run()
    assert way.asked == 8 * 4
    assert (load.seen.prompt, load.seen.cached) == (10 * way.asked, 4 * way.asked)
