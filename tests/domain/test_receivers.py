"""Which variables of the environment are for the receivers of which service."""

from __future__ import annotations

import pytest

from fairlead.domain.receivers import is_theirs, withheld

BOUND = {
    "ALERT_A": "secret", "ALERT_A_FOR": "bank, shop", "ALERT_B": "secret",
    "ALERT_TEAM": "secret", "ALERT_TEAM_FOR": "team-a-* bank", "ALERT_ALL": "secret",
    "ALERT_ALL_FOR": "*", "ALERT_NOBODY": "secret", "ALERT_NOBODY_FOR": "",
}  # fmt: skip


def test_where_nothing_is_said_each_is_for_every_service() -> None:
    assert withheld("ALERT_A", "bank", {"ALERT_A": "secret", "OTHER_FOR": "shop"}) == ""


@pytest.mark.parametrize(
    ("variable", "services"),
    [
        ("ALERT_A", {"bank", "shop"}),
        ("ALERT_B", set()),
        ("ALERT_TEAM", {"bank", "team-a-chat"}),
        ("ALERT_ALL", {"bank", "shop", "team-a-chat", "banking"}),
        ("ALERT_NOBODY", set()),
        ("ALERT_GONE", set()),
    ],
)
def test_where_it_is_said_of_one_it_has_to_be_said_of_all(
    variable: str, services: set[str]
) -> None:
    everybody = {"bank", "shop", "team-a-chat", "banking"}
    assert {name for name in everybody if not withheld(variable, name, BOUND)} == services


def test_why_is_said_without_the_secret_and_without_others_services() -> None:
    assert withheld("ALERT_A", "team-b", BOUND) == (
        "is not for the service team-b: ALERT_A_FOR does not name it"
    )
    assert withheld("ALERT_B", "bank", BOUND) == (
        "is for no service: ALERT_B_FOR has to say for which it is, as is said of others"
    )


@pytest.mark.parametrize("name", ["ALERT_A_FOR", "ALERT_", "OPENAI_API_KEY", "ALERT__FOR"])
def test_what_says_for_whom_another_one_is_is_given_to_nobody(name: str) -> None:
    assert not is_theirs(name)
    assert "only what is named ALERT_... is" in withheld(name, "bank", {name: "bank"})
