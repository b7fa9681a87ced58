"""A server with the Intercom app."""

from collections.abc import Callable

import pytest

from tests.plugins.service import Service, Starter
from tests.surfaces.inbox import INTERCOM


@pytest.fixture(scope="module")
def inbox(start_module_service: Starter, new_database: Callable[[], str]) -> Service:
    """A server with the app configured, shared by the tests of a module."""
    return start_module_service(new_database(), intercom=INTERCOM)
