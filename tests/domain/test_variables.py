"""What of the environment may be sent to others because somebody names it."""

from __future__ import annotations

import pytest

from fairlead.domain.variables import given, value_of, variable_problem


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("FAIRLEAD_CONTROL_TOKEN", "fairlead's own"),
        ("FAIRLEAD_API_KEY", "fairlead's own"),
        ("ALERT_SLACK_URL", "receivers of alerts"),
    ],
)
def test_secrets_of_the_installation_are_given_to_no_provider(name: str, why: str) -> None:
    assert why in variable_problem(name)
    assert value_of(name, {name: "secret"}) == ""
    assert given({name: "secret", "OPENAI_API_KEY": "k"}) == {"OPENAI_API_KEY": "k"}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "MY_FAIRLEAD_KEY", "ALERTS"])
def test_any_other_variable_may_be_named(name: str) -> None:
    assert variable_problem(name) == ""
    assert value_of(name, {name: "k"}) == "k"


def test_what_is_not_there_is_empty() -> None:
    assert value_of("GONE", {}) == value_of(None, {"": "x"}) == ""
