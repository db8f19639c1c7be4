"""What a service declares is about nobody but itself."""

from __future__ import annotations

import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.domain.receivers import Webhook
from fairlead.monitoring.declared import Declared, check_declared
from fairlead.monitoring.telling import Route

HOOK = Webhook("https://hooks.example/x")


def test_its_own_receivers_may_be_declared() -> None:
    check_declared(Declared(routes=(Route("shop/ops"),), receivers={"shop/ops": HOOK}), "shop")


@pytest.mark.parametrize("name", ["bank/pager", "shopping/ops", "ops", "shop"])
def test_the_place_of_another_services_receiver_cannot_be_taken(name: str) -> None:
    """All receivers of an installation are known by their names."""
    with pytest.raises(InvalidInput, match="does not begin with shop/"):
        check_declared(Declared(receivers={name: HOOK}), "shop")
