"""Worlds for tests of the poller."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ledger.store.application import Ledger
from tests.plugins.ledger import Shape
from tests.polling.provider import Provider, Twilio
from tests.polling.world import World, world


@pytest.fixture
def make_world(followed_ledgers: Callable[[Shape], Ledger]) -> Iterator[Callable[..., World]]:
    """Make accounts with servers of their providers, in one ledger; all are closed when the test ends."""
    with ExitStack() as stack:

        def make(kind: type[Provider] = Twilio, **told: Any) -> World:
            return stack.enter_context(world(followed_ledgers(Shape(1)), kind, **told))

        yield make
